// The one socket to the server. A lost connection is mended, with longer and longer waits.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
const SILENT_AFTER_MS = 25000;

export class Connection {
  /**
   * `handlers` has a function for each type of message, `picture` for live pictures and
   * `state` for 'open' and 'lost'.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.open = new Map();
    this.nextId = 1;
    this.waitMs = FIRST_WAIT_MS;
    addEventListener('online', () => this.tryNow());
    document.addEventListener('visibilitychange', () => document.hidden || this.tryNow());
    this.connect();
  }

  get isOpen() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Ask the server for something; `reply` ends with its reply, or with an Error. */
  request(type, fields) {
    const id = this.nextId++;
    const reply = new Promise((resolve, reject) => {
      if (!this.isOpen) reject(new Error('There is no connection to the server.'));
      else this.open.set(id, { resolve, reject });
    });
    if (this.isOpen) this.socket.send(JSON.stringify({ type, id, ...fields }));
    return { id, reply };
  }

  tryNow() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.connect();
  }

  connect() {
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = this.socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = 'blob';
    socket.onopen = () => {
      this.waitMs = FIRST_WAIT_MS;
      this.handlers.state('open');
    };
    socket.onmessage = ({ data }) => {
      this.watchSilence();
      if (data instanceof Blob) this.handlers.picture(data);
      else this.take(JSON.parse(data));
    };
    socket.onclose = () => this.lose();
  }

  take(message) {
    if (message.type !== 'reply') {
      this.handlers[message.type]?.(message);
      return;
    }
    const request = this.open.get(message.id);
    this.open.delete(message.id);
    if (message.ok) request?.resolve(message);
    else request?.reject(new Error(message.error));
  }

  lose() {
    clearTimeout(this.silence);
    for (const { reject } of this.open.values()) reject(new Error('The connection was lost.'));
    this.open.clear();
    const waitMs = this.waitMs * (0.75 + Math.random() / 2);
    this.waitMs = Math.min(2 * this.waitMs, LONGEST_WAIT_MS);
    this.handlers.state('lost');
    this.timer = setTimeout(() => this.connect(), waitMs);
    this.askForToken();
  }

  /** A network that swallows everything closes no socket: the server says something each second. */
  watchSilence() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), SILENT_AFTER_MS);
  }

  /** Where the token is wanted again, the page as it comes from the server asks for it. */
  async askForToken() {
    try {
      if ((await fetch('/', { method: 'HEAD' })).status === 401) location.reload();
    } catch {
      // The server is away.
    }
  }
}
