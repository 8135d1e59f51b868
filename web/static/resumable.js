// Sends a file in pieces that can be continued: the tus protocol 1.0. What the server
// has is asked after every break, so neither a lost connection nor a reload of the page
// costs more than the piece that was under way.
window.Resumable = (() => {
  const LARGEST = 8 << 20; // bytes of a piece; smaller ones while the connection breaks
  const SMALLEST = 256 << 10;
  const LONGEST_WAIT = 30000; // milliseconds
  const SILENCE = 60000;
  const LOOKED_AT = 64 << 10; // bytes by which a file is known again
  // What passes by itself. A piece may also be sent again from where the server is; to
  // all else those answers stay the same, and their sentences are for the user.
  const AGAIN = [408, 423, 429, 502, 503, 504];
  const PIECE_AGAIN = [...AGAIN, 409, 460, 500];

  class Refused extends Error {
    constructor(message, status) { super(message); this.status = status; }
  }
  class Broken extends Error {}
  class Stopped extends Error {}

  const token = () => document.querySelector('meta[name="csrf-token"]').content;
  const base64 = (bytes) => btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""));
  const encode = (text) => base64(new TextEncoder().encode(text));

  // No fetch: it does not tell how much of a body has been sent.
  const ask = (method, address, { headers = {}, body = null, signal = null, progress = () => {} } = {}) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let silence = 0;
      const listen = () => { clearTimeout(silence); silence = setTimeout(() => request.abort(), SILENCE); };
      const stop = () => request.abort();
      const end = (settle) => { clearTimeout(silence); signal?.removeEventListener("abort", stop); settle(); };
      request.open(method, address);
      const all = { "X-CSRFToken": token(), Accept: "application/json", "Tus-Resumable": "1.0.0", ...headers };
      for (const [name, value] of Object.entries(all)) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => { listen(); progress(event.loaded); });
      request.addEventListener("load", () => end(() => resolve(request)));
      request.addEventListener("error", () => end(() => reject(new Broken())));
      request.addEventListener("abort", () => end(() => reject(signal?.aborted ? new Stopped() : new Broken())));
      if (signal?.aborted) { reject(new Stopped()); return; }
      signal?.addEventListener("abort", stop);
      listen();
      request.send(body);
    });
  const need = (request, again = AGAIN) => {
    if (request.status >= 200 && request.status < 300) return request;
    if (again.includes(request.status)) throw new Broken();
    let detail = "";
    try { detail = JSON.parse(request.responseText).detail; } catch { /* not ours */ }
    if (request.status === 401) detail = "You are signed out. Sign in in another tab, reload this page and choose the file again: it continues.";
    throw new Refused(detail || `The server answered ${request.status}.`, request.status);
  };

  // Waits after the n-th break in a row, less long when the network comes back.
  const rest = (breaks, watch) => new Promise((resolve, reject) => {
    const wait = Math.min(LONGEST_WAIT, 500 * 2 ** breaks) * (0.75 + Math.random() / 2);
    watch.broken(Math.ceil(wait / 1000));
    const timer = setTimeout(() => end(resolve), wait);
    const wake = () => end(resolve);
    const stop = () => end(() => reject(new Stopped()));
    const end = (settle) => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      watch.signal.removeEventListener("abort", stop);
      settle();
    };
    addEventListener("online", wake);
    watch.signal.addEventListener("abort", stop);
    if (watch.signal.aborted) stop();
  });

  // Does `step` until the connection holds; a refusal ends it.
  const insist = async (step, watch) => {
    for (let breaks = 0; ; breaks += 1) {
      try { return await step(); } catch (error) {
        if (!(error instanceof Broken)) throw error;
        await rest(breaks, watch);
      }
    }
  };

  const readPiece = async (blob, offset, size) => {
    try {
      return await blob.slice(offset, offset + size).arrayBuffer();
    } catch {
      throw new Refused("This file cannot be read any more. Was it changed or moved? Choose it again.");
    }
  };
  const sendPiece = async (address, blob, offset, size, watch) => {
    const piece = await readPiece(blob, offset, size);
    const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset) };
    // Browsers compute digests on https and on localhost only; elsewhere TCP must do.
    if (window.crypto?.subtle) headers["Upload-Checksum"] = `sha256 ${base64(await crypto.subtle.digest("SHA-256", piece))}`;
    const progress = (loaded) => watch.at(offset + Math.min(loaded, piece.byteLength));
    const answer = need(await ask("PATCH", address, { headers, body: piece, signal: watch.signal, progress }), PIECE_AGAIN);
    return Number(answer.getResponseHeader("Upload-Offset"));
  };
  const findOffset = async (address, watch) => {
    // Without a body a refusal of HEAD has no sentence, so GET.
    const answer = need(await ask("GET", address, { signal: watch.signal }), PIECE_AGAIN);
    return Number(answer.getResponseHeader("Upload-Offset"));
  };

  // `watch`: signal, at(offset), broken(seconds until the next try), continued().
  const send = async (address, blob, watch) => {
    let size = LARGEST;
    let offset = null;
    let breaks = 0;
    for (;;) {
      try {
        if (offset === null) offset = await findOffset(address, watch);
        watch.at(offset);
        if (offset >= blob.size) return;
        offset = await sendPiece(address, blob, offset, size, watch);
        if (breaks) watch.continued();
        breaks = 0;
        size = Math.min(LARGEST, size * 2);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        offset = null;
        size = Math.max(SMALLEST, size / 2);
        await rest(breaks, watch);
        breaks += 1;
      }
    }
  };

  // By which a file is known again after a reload; no secret, so a plain sum will do.
  const fingerprint = async (name, blob, seen) => {
    const bytes = new Uint8Array(await readPiece(blob, 0, LOOKED_AT));
    let sum = 0x811c9dc5;
    const add = (byte) => { sum = Math.imul(sum ^ byte, 0x01000193) >>> 0; };
    bytes.forEach(add);
    new TextEncoder().encode(`${name}|${seen}`).forEach(add);
    return `web-${blob.size}-${sum.toString(16)}`;
  };

  const list = async (base) => JSON.parse(need(await ask("GET", base)).responseText).items;
  const remove = async (address) => need(await ask("DELETE", address));
  const create = async (base, name, blob, print, watch) => {
    const headers = {
      "Upload-Length": String(blob.size),
      "Upload-Metadata": `filename ${encode(name)},fingerprint ${encode(print)}`,
    };
    const made = need(await ask("POST", base, { headers, signal: watch.signal }));
    return made.getResponseHeader("Location");
  };
  const post = async (address, content, signal) => JSON.parse(need(await ask("POST", address, {
    headers: { "Content-Type": "application/json" }, body: JSON.stringify(content), signal,
  })).responseText);

  return { Refused, Stopped, fingerprint, list, create, send, remove, post, insist };
})();
