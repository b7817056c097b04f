// The picture of now, or of the last answer, and the region that is drawn on it.

import { find, make } from './dom.js';

const OLD_AFTER_MS = 3000;

export class Picture {
  constructor(onLook, onRegion) {
    this.view = find('view');
    this.stage = this.view.parentElement;
    this.onLook = onLook;
    this.onRegion = onRegion;
    this.mode = 'live';
    this.answer = null;
    this.liveMs = 0;
    this.sizes = {};
    find('looked-at').addEventListener('change', () => {
      this.view.hidden = this.mode === 'live';
      this.look();
      this.describe();
    });
    for (const input of document.querySelectorAll('[name=view]')) {
      input.addEventListener('change', () => this.choose(input.value));
    }
    document.addEventListener('visibilitychange', () => this.look());
    setInterval(() => this.describe(), 1000);
    this.listen();
  }

  /** Tell the server whether the picture of now is looked at. */
  look() {
    this.onLook(this.mode === 'live' && !document.hidden, this.camera);
  }

  get camera() {
    return find('looked-at').value;
  }

  /** Height and width of the frames of the camera, in pixels. */
  get size() {
    return this.sizes[this.camera] ?? [1, 1];
  }

  /** Take the names of the cameras; there are none where there is one camera. */
  cameras(names) {
    const before = this.camera;
    find('looked-at').replaceChildren(...names.map((name) => make('option', { selected: name === before }, name)));
    if (this.camera !== before) this.look();
  }

  choose(mode) {
    this.mode = mode;
    this.look();
    if (mode === 'answered') this.showAnswer();
    this.mark(this.region);
    this.describe();
  }

  live(blob) {
    this.liveMs = performance.now();
    if (this.mode !== 'live') return;
    const before = this.url;
    this.url = URL.createObjectURL(blob);
    this.show(this.url, 'What the camera sees now, with events in orange');
    if (before) URL.revokeObjectURL(before);
    this.describe();
  }

  answered(answer) {
    if (!answer.picture || (this.answer && answer.number < this.answer.number)) return;
    this.answer = answer;
    if (this.mode === 'answered') this.showAnswer();
    this.describe();
  }

  showAnswer() {
    if (this.answer) this.show(this.answer.picture, `The frame of the last answer: ${this.answer.question}`);
    else this.view.hidden = true;
  }

  show(url, alt) {
    this.view.src = url;
    this.view.alt = alt;
    this.view.hidden = false;
  }

  describe() {
    const isLive = this.mode === 'live';
    find('no-picture').hidden = !this.view.hidden;
    let text = 'Frame and events. ';
    if (!isLive) {
      text = !this.answer ? 'No answer with a picture yet.' : this.answer.scene === 'memory'
        ? `Frame ${this.answer.stamp}: new tokens are framed, remembered ones tinted by age.`
        : `Frame ${this.answer.stamp}: kept tokens are bright and framed, the rest was left out.`;
    } else if (this.view.hidden) {
      text = 'Waiting for guided frames of event_sync_node.';
    } else if (performance.now() - this.liveMs > OLD_AFTER_MS) {
      text = `The last frame came ${Math.round((performance.now() - this.liveMs) / 1000)} s ago.`;
    }
    if (find('caption').textContent !== text) find('caption').textContent = text;
  }

  /** Mark a region in image pixels [left, top, width, height], null for none. */
  mark(region) {
    const box = find('region');
    this.region = region;
    box.hidden = !region || this.mode !== 'live' || this.view.hidden || !this.view.naturalWidth;
    if (box.hidden) return;
    const [height, width] = this.size;
    const [left, top, wide, high] = region;
    box.style.left = `${100 * left / width}%`;
    box.style.top = `${100 * top / height}%`;
    box.style.width = `${100 * wide / width}%`;
    box.style.height = `${100 * high / height}%`;
  }

  listen() {
    let start = null;
    const place = (event) => {
      const box = this.view.getBoundingClientRect();
      const share = (value, low, length) => Math.min(1, Math.max(0, (value - low) / length));
      const [height, width] = this.size;
      return [share(event.clientX, box.left, box.width) * width,
        share(event.clientY, box.top, box.height) * height];
    };
    this.view.addEventListener('dragstart', (event) => event.preventDefault());
    this.view.addEventListener('pointerdown', (event) => {
      if (!this.stage.classList.contains('drawing') || this.mode !== 'live') return;
      this.view.setPointerCapture(event.pointerId);
      start = place(event);
    });
    this.view.addEventListener('pointermove', (event) => {
      if (!start) return;
      const end = place(event);
      const [left, top] = [0, 1].map((axis) => Math.floor(Math.min(start[axis], end[axis])));
      const [right, bottom] = [0, 1].map((axis) => Math.ceil(Math.max(start[axis], end[axis])));
      this.onRegion([left, top, right - left, bottom - top]);
    });
    for (const name of ['pointerup', 'pointercancel']) this.view.addEventListener(name, () => { start = null; });
  }
}
