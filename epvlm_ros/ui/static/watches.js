// Standing questions: the list, and the form for a new one.

import { duration, find, list, make, number } from './dom.js';

const SIDES = ['left', 'top', 'width', 'height'];

function describe(watch) {
  const parts = [{
    activity: `while there is activity${watch.level ? ` of ${watch.level} events per pixel and s` : ''}`,
    appeared: `when activity begins${watch.level ? ` at ${watch.level} events per pixel and s` : ''}`,
    interval: `every ${duration(watch.interval)}`,
  }[watch.condition] ?? watch.condition];
  if (watch.region[2]) parts.push(`in ${watch.region[2]} x ${watch.region[3]} px at ${watch.region[0]}, ${watch.region[1]}`);
  if (watch.min_gap) parts.push(`at least ${duration(watch.min_gap)} apart`);
  if (watch.max_rate) parts.push(`at most ${watch.max_rate} a minute`);
  if (watch.camera) parts.push(`camera ${watch.camera}`);
  return `${parts.join(', ')} · asked ${watch.asked}, held back ${watch.held_back}`;
}

export class Watches {
  constructor(connection, picture) {
    this.connection = connection;
    this.picture = picture;
    this.form = find('watch');
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.add();
    });
    this.form.elements.condition.addEventListener('change', () => this.showFields());
    SIDES.forEach((side) => this.form.elements[side].addEventListener('input', () => this.mark()));
    find('watch-details').addEventListener('toggle', (event) => {
      picture.stage.classList.toggle('drawing', event.target.open);
      this.mark();
    });
    this.showFields();
  }

  show({ fault, watches }) {
    find('watch-fault').textContent = fault;
    find('watch-fault').hidden = !fault;
    find('watches').replaceChildren(...watches.map((watch) => make('li', {},
      make('div', {}, make('p', {}, watch.question), make('p', { class: 'facts' }, `${watch.watch_id}: ${describe(watch)}`)),
      make('button', {
        type: 'button', class: 'quiet', 'aria-label': `End watch ${watch.watch_id}`,
        onclick: () => this.end(watch.watch_id),
      }, 'End'))));
  }

  async add() {
    const form = this.form;
    await this.tell(this.connection.request('watch', {
      question: form.elements.question.value.trim(), choices: list(form, 'choices'),
      condition: form.elements.condition.value, level: number(form, 'level'),
      interval: number(form, 'interval'), min_gap: number(form, 'min_gap'), max_rate: number(form, 'max_rate'),
      camera: form.elements.camera.value.trim() || this.picture.camera, region: this.region(),
    }), ({ watch_id: id }) => `Watch ${id} is set.`);
  }

  async end(id) {
    await this.tell(this.connection.request('unwatch', { watch_id: id }), () => `Watch ${id} has ended.`);
  }

  async tell({ reply }, describeReply) {
    const result = find('watch-result');
    try {
      result.textContent = describeReply(await reply);
      result.dataset.level = 'good';
    } catch (error) {
      result.textContent = error.message;
      result.dataset.level = 'bad';
      find('watch-details').open = true;
    }
  }

  region() {
    return SIDES.map((side) => number(this.form, side));
  }

  /** Take a region that was drawn on the picture. */
  draw(region) {
    SIDES.forEach((side, index) => { this.form.elements[side].value = Math.round(region[index]); });
    this.mark();
  }

  mark() {
    const region = this.region();
    this.picture.mark(find('watch-details').open && region[2] && region[3] ? region : null);
  }

  showFields() {
    for (const label of this.form.querySelectorAll('[data-for]')) {
      label.hidden = !label.dataset.for.split(' ').includes(this.form.elements.condition.value);
    }
  }
}
