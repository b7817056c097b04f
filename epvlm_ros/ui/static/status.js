// Whether server and nodes are there, and what is wrong with them.

import { find, make } from './dom.js';

const STATES = {
  active: ['good', 'active'],
  inactive: ['wait', 'inactive'],
  unconfigured: ['wait', 'not configured'],
  silent: ['wait', 'silent'],
  absent: ['bad', 'not there'],
};
const REMEDIES = {
  absent: 'it is not there. Has it been started, in this namespace and ROS domain?',
  silent: 'it says nothing: it is starting, or not active.',
  inactive: 'it is inactive. Activate it.',
  unconfigured: 'it is not configured. Configure and activate it.',
};

export class Status {
  constructor(tryNow) {
    this.tryNow = tryNow;
    this.lost = '';
    this.away = [];
    this.faults = '';
    this.shown = '';
  }

  connection(state) {
    const isOpen = state === 'open';
    find('connection').textContent = isOpen ? 'connected' : 'connection lost';
    find('connection').dataset.level = isOpen ? 'good' : 'bad';
    this.lost = isOpen ? '' : 'Connection to the server lost. What is shown is old.';
    this.draw();
  }

  nodes(nodes) {
    find('nodes').replaceChildren(...nodes.map(({ name, node, state, faults }) => {
      const [level, text] = STATES[state] ?? ['wait', state];
      return make('li', {
        class: 'pill', 'data-level': level === 'good' && faults.length ? 'wait' : level, title: node,
      }, `${name}: ${text}`);
    }));
    this.away = nodes.filter(({ state }) => REMEDIES[state])
      .map(({ name, state }) => [`${name}: ${REMEDIES[state]}`, state === 'absent']);
    this.draw();
    const faults = nodes.flatMap(({ name, faults: texts }) => texts.map((text) => `${name}, ${text}`));
    if (faults.join('\n') === this.faults) return;
    this.faults = faults.join('\n');
    find('faults').replaceChildren(...faults.map((text) => make('li', {}, text)));
  }

  /** An unchanged list is left alone, so that it is not read out again. */
  draw() {
    const key = JSON.stringify([this.lost, this.away]);
    if (key === this.shown) return;
    this.shown = key;
    const lines = this.away.map(([text, bad]) => make('p', { class: bad ? 'bad' : '' }, text));
    if (this.lost) {
      lines.unshift(make('p', { class: 'bad', id: 'lost' }, `${this.lost} Trying again.`,
        make('button', { type: 'button', class: 'quiet', onclick: this.tryNow }, 'Try now')));
    }
    find('alerts').replaceChildren(...lines);
  }
}
