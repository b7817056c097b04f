// Parameters that can change while the nodes run.

import { find, make } from './dom.js';

export class Parameters {
  constructor(connection) {
    this.connection = connection;
    this.fields = new Map();
    this.shown = '';
    find('find').addEventListener('input', () => this.filter());
  }

  show(nodes) {
    const shape = JSON.stringify(nodes.map(({ node, fault, parameters }) => [node, fault, parameters.map(({ name }) => name)]));
    if (shape !== this.shown) {
      this.shown = shape;
      this.fields.clear();
      find('parameters').replaceChildren(...nodes.map((node) => this.group(node)));
      this.filter();
    }
    for (const { node, parameters } of nodes) {
      for (const { name, value } of parameters) this.fields.get(`${node} ${name}`)?.take(value);
    }
  }

  group({ node, fault, parameters }) {
    return make('section', { 'aria-label': `Parameters of ${node}` }, make('h3', {}, node),
      fault ? make('p', { class: 'fault' }, fault) : null,
      ...parameters.map((parameter) => this.row(node, parameter)));
  }

  row(node, { name, description, choices, minimum, maximum, value: first }) {
    const id = `parameter-${node}-${name}`;
    const isTruth = typeof first === 'boolean', isNumber = typeof first === 'number';
    const range = [minimum === null ? '' : `at least ${minimum}`, maximum === null ? '' : `at most ${maximum}`]
      .filter((text) => text).join(', ');
    const input = choices.length
      ? make('select', { id }, ...choices.map((choice) => make('option', {}, choice)))
      : make('input', { id, type: isTruth ? 'checkbox' : 'text', inputmode: isNumber ? 'decimal' : null });
    input.setAttribute('aria-describedby', `${id}-text`);
    const output = make('output', { for: id });
    let now = first;
    const put = (value) => {
      if (isTruth) input.checked = value;
      else input.value = Array.isArray(value) ? value.join(', ') : String(value);
    };
    const read = () => {
      if (isTruth) return input.checked;
      if (isNumber) return Number(input.value.trim() === '' ? NaN : input.value);
      return Array.isArray(first) ? input.value.split(',').map(Number) : input.value;
    };
    const set = async () => {
      try {
        const value = read();
        if ([value].flat().some((entry) => Number.isNaN(entry))) throw new Error('Give a number.');
        await this.connection.request('set', { node, name, value }).reply;
        now = value;
        output.textContent = 'Set.';
        output.dataset.level = 'good';
        input.removeAttribute('aria-invalid');
      } catch (error) {
        output.textContent = error.message;
        output.dataset.level = 'bad';
        input.setAttribute('aria-invalid', 'true');
      }
    };
    input.addEventListener('change', set);
    input.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || input.tagName !== 'INPUT') return;
      put(now);
      output.textContent = '';
      input.removeAttribute('aria-invalid');
    });
    put(first);
    this.fields.set(`${node} ${name}`, {
      // What somebody is typing is left alone, and so is a refused value until it is mended.
      take: (value) => {
        now = value;
        if (document.activeElement !== input && !input.hasAttribute('aria-invalid')) put(value);
      },
    });
    return make('div', { class: 'parameter', 'data-text': `${name} ${description}`.toLowerCase() },
      make('label', { for: id }, name), input,
      make('p', { class: 'muted', id: `${id}-text` }, `${description}${range ? ` (${range})` : ''}`), output);
  }

  filter() {
    const words = find('find').value.toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll('.parameter')) {
      row.hidden = !words.every((word) => row.dataset.text.includes(word));
    }
  }
}
