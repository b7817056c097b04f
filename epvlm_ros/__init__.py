"""Event-guided sparse vision-language answers for robots with an event camera."""

import os

# A robot shares its cores: threads of torch that spin while they wait for each other take them
# from the drivers, and slow each other down thirtyfold when a core is busy. This is read when
# torch is loaded, so it stands before everything else.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
