// Answers: the one that is being written, and the list of those before.

import { duration, find, make, percent } from './dom.js';

const MAX_SHOWN = 100;

/** Return what is said of an answer beside its text. */
function facts(answer) {
  const parts = [];
  if (answer.tokens) {
    parts.push(`${answer.tokens_kept} of ${answer.tokens} tokens`);
    if (answer.flops_saved !== null) parts.push(`${percent(answer.flops_saved)} of the FLOPs saved`);
    parts.push(`first word ${duration(answer.time_to_first_token)}, all ${duration(answer.total_time)}`,
      `frame ${duration(answer.frame_age)} old`);
    if (answer.mean_log_probability) parts.push(`log-probability ${answer.mean_log_probability.toFixed(2).replace('-0.00', '0.00')}`);
  }
  if (answer.scene === 'memory') {
    parts.push(`scene in memory, ${answer.tokens_refreshed} tokens new, oldest ${duration(answer.oldest_token_age)}`);
  } else if (answer.scene) parts.push(answer.scene);
  if (answer.model) parts.push(`by ${answer.model}`);
  if (answer.fallback) parts.push(`fallback: ${answer.fallback}`);
  if (answer.camera) parts.push(`camera ${answer.camera}`);
  if (answer.truncated) parts.push('cut off at the most tokens');
  return parts.join(' · ');
}

function bars(answer) {
  if (!answer.probabilities.length) return null;
  return make('ul', { class: 'bars', 'aria-label': 'Probabilities' }, ...answer.choices.map((choice, index) => {
    const share = answer.probabilities[index] ?? 0;
    return make('li', {}, make('span', {}, choice), make('meter', { value: share, min: 0, max: 1, 'aria-label': choice }),
      make('span', {}, percent(share)));
  }));
}

function body(answer) {
  const bad = answer.status !== 'OK';
  return [
    answer.text ? make('p', { class: 'said' }, answer.text) : null,
    bad ? make('p', {}, make('span', { class: 'status' }, answer.status), ` ${answer.message}`) : null,
    bars(answer),
    make('p', { class: 'facts' }, facts(answer)),
  ].filter((part) => part);
}

/** Show a question while its answer is written: `text` may be empty. */
export function showWriting(question, text) {
  const region = find('answer');
  if (region.getAttribute('aria-busy') !== 'true') {
    region.setAttribute('aria-busy', 'true');
    region.replaceChildren(make('p', { class: 'asked' }, question), make('p', { class: 'said' }));
  }
  region.querySelector('.said').textContent = text;
}

/** Show the end of an answer; only this is read out. */
export function showAnswer(answer) {
  const region = find('answer');
  region.replaceChildren(make('p', { class: 'asked' }, answer.question), ...body(answer));
  region.setAttribute('aria-busy', 'false');
}

/** Show why there is no answer. */
export function showFault(question, text) {
  const region = find('answer');
  region.replaceChildren(make('p', { class: 'asked' }, question), make('p', { class: 'fault' }, text));
  region.setAttribute('aria-busy', 'false');
}

export class History {
  constructor() {
    this.items = new Map();
  }

  /** Begin anew with the answers that the server has. */
  fill(answers) {
    this.items.clear();
    find('history').replaceChildren();
    answers.forEach((answer) => this.add(answer));
  }

  /** Put an answer on top, or in the place of what was known of it. */
  add(answer) {
    const item = this.draw(answer);
    const before = this.items.get(answer.number);
    this.items.set(answer.number, item);
    if (before) before.replaceWith(item);
    else find('history').prepend(item);
    while (this.items.size > MAX_SHOWN) {
      const oldest = Math.min(...this.items.keys());
      this.items.get(oldest).remove();
      this.items.delete(oldest);
    }
    find('count').textContent = this.items.size ? `${this.items.size}` : '';
  }

  draw(answer) {
    const time = new Date(answer.received * 1000);
    const blank = () => make('div', { class: 'blank' }, 'no picture');
    let picture = blank();
    if (answer.picture) {
      picture = make('img', {
        src: answer.picture, loading: 'lazy', alt: `Frame ${answer.stamp} with events and tokens`,
        onerror: (event) => event.target.replaceWith(blank()),
      });
    }
    return make('li', {}, picture, make('div', {},
      make('p', { class: 'asked' }, make('time', { datetime: time.toISOString() }, time.toLocaleTimeString()),
        answer.watch_id ? ` · ${answer.watch_id}` : '', ` · ${answer.question}`),
      ...body(answer)));
  }
}
