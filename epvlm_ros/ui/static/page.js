// Everything on the page, and the connection that feeds it.

import { History } from './answers.js';
import { Ask } from './ask.js';
import { Connection } from './connection.js';
import { find, make } from './dom.js';
import { Gauges } from './gauges.js';
import { Parameters } from './parameters.js';
import { Picture } from './picture.js';
import { Status } from './status.js';
import { Watches } from './watches.js';

const status = new Status(() => connection.tryNow());
const history = new History();
const gauges = new Gauges();
const picture = new Picture(
  (on, camera) => connection.isOpen && connection.request('live', { on, camera }).reply.catch(() => {}),
  (region) => watches.draw(region));

/** Let the forms choose between several cameras. */
function showCameras(cameras) {
  for (const field of document.querySelectorAll('.camera')) field.hidden = !cameras.length;
  if (cameras.join() === [...find('cameras').options].map(({ value }) => value).join()) return;
  find('cameras').replaceChildren(...cameras.map((value) => make('option', { value })));
  picture.cameras(cameras);
}

const connection = new Connection({
  state: (state) => {
    status.connection(state);
    if (state === 'open') picture.look();
  },
  picture: (blob) => picture.live(blob),
  hello: ({ namespace, answers }) => {
    find('namespace').textContent = namespace === '/' ? '' : namespace;
    history.fill(answers);
    answers.forEach((answer) => picture.answered(answer));
  },
  answer: ({ answer }) => {
    history.add(answer);
    picture.answered(answer);
  },
  text: (message) => ask.text(message),
  nodes: ({ nodes, cameras }) => {
    status.nodes(nodes);
    showCameras(cameras);
  },
  gauges: (message) => gauges.show(message.gauges),
  frames: ({ sizes }) => { picture.sizes = sizes; },
  watches: (message) => watches.show(message),
  parameters: ({ nodes }) => parameters.show(nodes),
});
const ask = new Ask(connection, picture);
const watches = new Watches(connection, picture);
const parameters = new Parameters(connection);
find('question').focus();
