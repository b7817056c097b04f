// Elements from plain text: nothing that came from outside is ever read as HTML.

/** Return an element with attributes, and texts or elements inside. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ''));
  return element;
}

/** Return the element of an id. */
export const find = (id) => document.getElementById(id);

/** Return the number in a field of a form, 0 where it is empty. */
export const number = (form, name) => Number(form.elements[name].value || 0);

/** Return the texts between the commas of a field. */
export const list = (form, name) =>
  form.elements[name].value.split(',').map((text) => text.trim()).filter((text) => text);

/** Return a time in seconds in the unit that people would say it in. */
export function duration(seconds) {
  if (seconds === null) return 'unknown';
  return Math.abs(seconds) < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

/** Return a share as a percentage. */
export const percent = (share) => `${Math.round(100 * share)}%`;
