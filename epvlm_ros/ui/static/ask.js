// The question box: Enter asks, Escape cancels.

import { showAnswer, showFault, showWriting } from './answers.js';
import { find, list, number } from './dom.js';

export class Ask {
  constructor(connection, picture) {
    this.connection = connection;
    this.picture = picture;
    this.asked = null;
    this.form = find('ask');
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.send();
    });
    find('cancel').addEventListener('click', () => this.cancel());
    addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.asked !== null) this.cancel();
    });
  }

  async send() {
    const form = this.form, question = form.elements.question.value.trim();
    if (this.asked !== null || !question) return;
    const { id, reply } = this.connection.request('ask', {
      question, choices: list(form, 'choices'), seconds_ago: number(form, 'seconds_ago'),
      keep_ratio: number(form, 'keep_ratio'), max_new_tokens: number(form, 'max_new_tokens'),
      deadline: number(form, 'deadline'), num_moments: number(form, 'num_moments'),
      camera: form.elements.camera.value.trim() || this.picture.camera,
    });
    this.asked = id;
    this.question = question;
    this.showOpen(true);
    showWriting(question, '');
    try {
      showAnswer((await reply).answer);
    } catch (error) {
      showFault(question, error.message);
    }
    this.asked = null;
    this.showOpen(false);
  }

  /** Take the text so far of a question. */
  text({ id, text }) {
    if (id === this.asked) showWriting(this.question, text);
  }

  cancel() {
    if (this.asked === null) return;
    this.connection.request('cancel', { asked: this.asked }).reply.catch(() => {});
    find('cancel').disabled = true;
    find('question').focus();
  }

  showOpen(isOpen) {
    find('send').hidden = isOpen;
    find('cancel').hidden = !isOpen;
    find('cancel').disabled = false;
  }
}
