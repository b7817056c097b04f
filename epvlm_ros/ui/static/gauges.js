// Gauges with the curve of the last minute.

import { find, make } from './dom.js';

const NUM_POINTS = 60;
const SVG = 'http://www.w3.org/2000/svg';

export class Gauges {
  constructor() {
    this.items = new Map();
  }

  show(gauges) {
    const names = gauges.map(({ name }) => name);
    if (names.join() !== [...this.items.keys()].join()) {
      this.items = new Map(names.map((name) => [name, this.items.get(name) ?? this.make(name)]));
      find('gauges').replaceChildren(...[...this.items.values()].map(({ element }) => element));
    }
    gauges.forEach((gauge) => this.draw(this.items.get(gauge.name), gauge));
  }

  make(name) {
    const text = make('dd'), details = make('dd', { class: 'muted' });
    const svg = document.createElementNS(SVG, 'svg'), curve = document.createElementNS(SVG, 'polyline');
    svg.setAttribute('viewBox', `0 0 ${NUM_POINTS - 1} 20`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    svg.append(curve);
    const element = make('div', { class: 'gauge' }, make('dt', {}, name), text, details);
    element.append(svg);
    return { element, text, details, curve, values: [] };
  }

  draw(item, { value, text, details }) {
    item.text.textContent = text;
    item.details.textContent = details;
    item.values = [...item.values, value].slice(-NUM_POINTS);
    const known = item.values.filter((entry) => entry !== null);
    const low = Math.min(0, ...known), span = Math.max(...known, low + 1e-9) - low;
    const first = NUM_POINTS - item.values.length;
    item.curve.setAttribute('points', item.values
      .map((entry, index) => (entry === null ? '' : `${first + index},${19 - 18 * ((entry - low) / span)}`))
      .filter((point) => point).join(' '));
  }
}
