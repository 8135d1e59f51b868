// Uploads each chosen archive as one raw request, one after the other, with progress.
// Without this script the form sends all files in one request, and that works too.
(() => {
  const form = document.getElementById("upload");
  const input = document.getElementById("files");
  const chosen = document.getElementById("chosen");
  const send = document.getElementById("send");
  const summary = document.getElementById("summary");
  const drop = document.getElementById("drop");
  const limit = Number(form.dataset.limit);
  const suffixes = [".tar.gz", ".tgz", ".tar", ".zip"];
  let rows = [];
  let busy = false;

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    while (bytes >= 1024 && i < 4) { bytes /= 1024; i += 1; }
    return `${bytes.toFixed(i ? 1 : 0)} ${units[i]}`;
  };
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const stem = (name) => {
    const suffix = suffixes.find((s) => name.toLowerCase().endsWith(s));
    return suffix ? name.slice(0, -suffix.length) : name;
  };
  const problemOf = (file) => {
    if (!suffixes.some((s) => file.name.toLowerCase().endsWith(s))) return "This is no .zip, .tar or .tar.gz.";
    if (file.size > limit) return `Larger than the ${size(limit)} this server accepts.`;
    if (file.size === 0) return "This file is empty.";
    return "";
  };

  const add = (files) => {
    for (const file of files) {
      if (!input.multiple) { rows = []; chosen.replaceChildren(); }
      const id = `upload-${rows.length}-${Date.now()}`;
      const name = make("input", { className: "form-control form-control-sm", id, value: stem(file.name), maxLength: 80 });
      const label = make("label", { className: "form-label small mb-0", htmlFor: id, textContent: `Name for ${file.name} (${size(file.size)})` });
      const bar = make("progress", { max: file.size || 1, value: 0 });
      bar.setAttribute("aria-label", `Upload of ${file.name}`);
      const note = make("div", { className: "upload-note small", textContent: problemOf(file) });
      note.setAttribute("role", "status");
      const remove = make("button", { type: "button", className: "btn btn-sm btn-outline-secondary", textContent: "Remove" });
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      const box = make("div", { className: "upload-row" });
      const row = { file, name, bar, note, remove, box, key: key(), done: false, bad: Boolean(note.textContent), link: null };
      if (row.bad) note.classList.add("tone-error");
      box.append(make("div", {}, label, ...(input.multiple ? [name] : [])), remove, bar, note);
      remove.addEventListener("click", () => {
        if (row.request) row.request.abort();
        rows = rows.filter((r) => r !== row);
        box.remove();
        say();
      });
      name.addEventListener("change", () => { row.key = key(); });  // another wish
      rows.push(row);
      chosen.append(box);
    }
    input.required = rows.length === 0;
    say();
  };
  const key = () => (crypto.randomUUID ? crypto.randomUUID() : Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join(""));
  const say = () => {
    const ready = rows.filter((r) => !r.done && !r.bad);
    const total = ready.reduce((sum, r) => sum + r.file.size, 0);
    if (!busy) summary.textContent = ready.length ? `${ready.length} ${ready.length === 1 ? "archive" : "archives"}, ${size(total)}` : "";
  };

  const upload = (row) => new Promise((resolve) => {
    const query = new URLSearchParams({ filename: row.file.name });
    if (form.dataset.dataset) query.set("dataset_id", form.dataset.dataset);
    else query.set("name", row.name.value);
    for (const name of ["mode", "split_by", "split_column"]) {
      const value = new FormData(form).get(name);
      if (value) query.set(name, value);
    }
    const request = new XMLHttpRequest();
    row.request = request;
    const started = Date.now();
    row.note.className = "upload-note small quiet";
    request.open("POST", `${form.dataset.address}?${query}`);
    request.setRequestHeader("X-CSRFToken", document.querySelector('meta[name="csrf-token"]').content);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Idempotency-Key", row.key);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", (event) => {
      row.bar.value = event.loaded;
      const seconds = (Date.now() - started) / 1000;
      const left = seconds > 1 ? `, ${Math.ceil((event.total - event.loaded) / (event.loaded / seconds))} s left` : "";
      row.note.textContent = event.loaded < event.total ? `${size(event.loaded)} of ${size(event.total)}${left}` : "Writing to disk …";
    });
    const fail = (text) => { row.note.className = "upload-note small tone-error"; row.note.textContent = text; row.remove.hidden = false; resolve(false); };
    request.addEventListener("error", () => fail("The connection broke. Press Upload to send it again."));
    request.addEventListener("abort", () => resolve(false));
    request.addEventListener("load", () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* not ours */ }
      if (request.status >= 300) { fail(answer.detail || `The server answered ${request.status}.`); return; }
      row.done = true;
      row.name.disabled = true;
      row.bar.value = row.bar.max;
      row.remove.hidden = true;
      row.link = answer.page;
      row.note.replaceChildren(make("a", { href: answer.page, textContent: "Received; see how it is read" }));
      resolve(true);
    });
    request.send(row.file);
  });

  input.addEventListener("change", () => { add(input.files); input.value = ""; });
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); add(event.dataTransfer.files); });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    delete form.dataset.sent;
    if (busy) return;
    busy = true;
    send.disabled = true;
    summary.textContent = "Uploading …";
    for (const row of rows) if (!row.done && !row.bad) await upload(row);
    busy = false;
    send.disabled = false;
    const done = rows.filter((r) => r.done);
    if (rows.length && done.length === rows.length) {
      summary.textContent = "All received.";
      location.href = done.length === 1 ? done[0].link : form.dataset.after || "/datasets";
      return;
    }
    summary.textContent = `${done.length} of ${rows.length} received; see below what is wrong with the others.`;
  });
})();
