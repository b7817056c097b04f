"""Lets ``python -m epvlm_ros.cli`` run the command line."""

from epvlm_ros.cli import main

if __name__ == '__main__':
    main()
