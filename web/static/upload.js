// The page that uploads: archives, folders and tables become datasets, each one or all
// together. Without this script the form sends its files in one request.
(() => {
  const form = document.getElementById("upload");
  const find = (id) => document.getElementById(id);
  const [input, folder, chosen, send, summary, drop] = ["files", "folder", "chosen", "send", "summary", "drop"].map(find);
  const [unfinished, shape, whole, root] = ["unfinished", "several", "together-name", "table-root"].map(find);
  const limit = Number(form.dataset.limit);
  const base = form.dataset.uploads;
  const archives = form.dataset.archives.split(",");
  const tables = form.dataset.tables.split(",");
  let rows = [];
  let busy = false;
  let left = []; // uploads of earlier visits

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    while (bytes >= 1024 && i < 4) { bytes /= 1024; i += 1; }
    return `${bytes.toFixed(i ? 1 : 0)} ${units[i]}`;
  };
  const time = (seconds) => {
    if (seconds < 60) return `${Math.ceil(seconds)} s`;
    const minutes = Math.ceil(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const button = (words, label) => {
    const made = make("button", { type: "button", className: "btn btn-sm btn-outline-secondary", textContent: words });
    made.setAttribute("aria-label", label);
    return made;
  };
  const ending = (name, suffixes) => suffixes.find((s) => name.toLowerCase().endsWith(s));
  const stem = (name) => { const suffix = ending(name, archives) || ending(name, tables); return suffix ? name.slice(0, -suffix.length) : name; };
  const say = (text) => { summary.textContent = text; };
  const several = () => rows.filter((row) => row.state !== "bad").length > 1;
  const together = () => Boolean(form.dataset.dataset) || (several() && form.elements.shape.value === "together");

  // -- choosing
  const problemOf = ({ name, blob, table }) => {
    if (!table && !ending(name, archives)) return "This is no .zip or .tar, compressed or not, and no table of labels. Pictures come as a folder.";
    if (blob.size > limit) return `Larger than the ${size(limit)} this server accepts.`;
    if (blob.size === 0) return "This file is empty.";
    return "";
  };
  const fromFile = (file) => ({ name: file.name, blob: file, seen: String(file.lastModified), table: Boolean(ending(file.name, tables)) });
  const fromFolder = (name, files) => ({ ...Tar.pack(name, files), table: false, count: files.length });

  const add = (source) => {
    const id = `upload-${rows.length}-${Date.now()}`;
    const words = source.count ? `${source.name} (${source.count} files, ${size(source.blob.size)})` : `${source.name} (${size(source.blob.size)})`;
    const name = make("input", { className: "form-control form-control-sm", id, value: stem(source.name), maxLength: 80 });
    const label = make("label", { className: "form-label small mb-0", htmlFor: id, textContent: `Name for ${words}` });
    const plain = make("div", { className: "small", textContent: words });
    const bar = make("progress", { max: source.blob.size || 1, value: 0 });
    bar.setAttribute("aria-label", `Upload of ${source.name}`);
    const note = make("div", { className: "upload-note small" });
    const pause = button("Pause", `Pause ${source.name}`);
    pause.hidden = true;
    const drop = button("Remove", `Remove ${source.name}`);
    const box = make("div", { className: "upload-row" });
    const row = { ...source, input: name, own: [label, name], plain, bar, note, pause, drop, box, state: "chosen", address: null };
    box.append(make("div", {}, plain, label, name), make("div", { className: "upload-buttons" }, pause, drop), bar, note);
    pause.addEventListener("click", () => turn(row));
    drop.addEventListener("click", () => discard(row));
    if (problemOf(row)) fail(row, problemOf(row), "bad");
    rows.push(row);
    chosen.append(box);
    recognise(row);
  };
  const addAll = (sources) => {
    sources.forEach(add);
    input.required = rows.length === 0;
    if (rows.some((row) => row.table) && !form.dataset.dataset) form.elements.shape.value = "together";
    show();
  };
  const show = () => {
    shape.hidden = Boolean(form.dataset.dataset) || !several();
    if (root) root.hidden = !rows.some((row) => row.table); // null where nothing is offered
    const own = !together();
    for (const row of rows) {
      const named = own && !(row.table && several());
      for (const element of row.own) element.hidden = !named;
      row.plain.hidden = named;
    }
    whole.parentElement.hidden = !together();
    if (busy) return;
    const ready = rows.filter((row) => ["chosen", "paused", "failed"].includes(row.state));
    const total = ready.reduce((sum, row) => sum + row.blob.size, 0);
    say(ready.length ? `${ready.length} ${ready.length === 1 ? "file" : "files"}, ${size(total)}` : "");
  };

  // -- what earlier visits have left
  const recognise = async (row) => {
    try { row.print ||= await Resumable.fingerprint(row.name, row.blob, row.seen); } catch (error) { fail(row, error.message, "bad"); return; }
    const known = left.find((one) => one.fingerprint === row.print && one.length === row.blob.size);
    if (!known || row.address) return;
    row.address = `${base}/${known.id}`;
    row.bar.value = known.offset;
    if (row.state === "chosen") row.note.textContent = `Continues at ${size(known.offset)}.`;
    left = left.filter((one) => one !== known);
    showLeft();
  };
  const showLeft = () => {
    unfinished.hidden = left.length === 0;
    unfinished.querySelector("ul").replaceChildren(...left.map((one) => {
      const away = button("Discard", `Discard ${one.filename}`);
      const kept = one.had_by ? `Job ${one.had_by} made no dataset of it; kept as long as that job` : `Kept until ${new Date(one.expires_at).toLocaleString()}`;
      const state = one.offset === one.length ? "all of it has come" : `${size(one.offset)}${one.length ? ` of ${size(one.length)}` : ""} have come`;
      away.addEventListener("click", async () => {
        try { await Resumable.remove(`${base}/${one.id}`); } catch { /* gone already, or it expires */ }
        left = left.filter((other) => other !== one);
        showLeft();
        say(`${one.filename} is discarded.`);
      });
      return make("li", {}, make("span", {}, make("strong", { textContent: one.filename }), `: ${state}. ${kept}.`), " ", away);
    }));
  };
  const look = async () => {
    try { left = await Resumable.list(base); } catch { return; }
    showLeft();
    rows.forEach(recognise);
  };

  // -- sending
  const fail = (row, text, state = "failed") => {
    row.state = state;
    row.note.className = "upload-note small tone-error";
    row.note.textContent = `${row.name}: ${text}`;
  };
  const turn = (row) => {
    if (row.state === "sending") { row.stop.abort(); return; }
    row.state = "chosen";
    run();
  };
  const discard = async (row) => {
    const address = row.address;
    row.stop?.abort();
    rows = rows.filter((other) => other !== row);
    row.box.remove();
    input.required = rows.length === 0;
    show();
    if (address && !row.used) try { await Resumable.remove(address); } catch { /* it expires by itself */ }
  };
  const pace = (row) => {
    const from = { at: null, when: 0 };
    return (offset) => {
      const now = Date.now();
      if (from.at === null || offset < from.at) Object.assign(from, { at: offset, when: now });
      row.bar.value = offset;
      const rate = (offset - from.at) / Math.max(1, (now - from.when) / 1000);
      const ahead = rate > 0 && now - from.when > 1000 ? `, ${size(rate)}/s, ${time((row.blob.size - offset) / rate)} left` : "";
      row.note.className = "upload-note small quiet";
      row.note.textContent = `${size(offset)} of ${size(row.blob.size)}${ahead}`;
    };
  };
  const watchOf = (row) => {
    row.stop = new AbortController();
    return {
      signal: row.stop.signal,
      at: pace(row),
      broken: (seconds) => {
        row.note.className = "upload-note small tone-warning";
        row.note.textContent = `The connection broke at ${size(row.bar.value)}. Trying again in ${seconds} s.`;
        say(`${row.name}: the connection broke; it continues by itself.`);
      },
      continued: () => say(`${row.name} continues.`),
    };
  };
  const open = (row, watch) => Resumable.insist(() => Resumable.create(base, row.name, row.blob, row.print, watch), watch);
  const transfer = async (row) => {
    const watch = watchOf(row);
    row.state = "sending";
    await looked;
    if (!row.address) await recognise(row);
    if (row.state === "bad") return;
    row.address ||= await open(row, watch);
    try {
      await Resumable.send(row.address, row.blob, watch);
    } catch (error) {
      if (![404, 410].includes(error.status)) throw error;
      row.address = await open(row, watch); // it was not continued in time
      await Resumable.send(row.address, row.blob, watch);
    }
    row.state = "sent";
    row.note.textContent = "Received.";
  };
  const attempt = async (row, step) => {
    try { await step(row); } catch (error) {
      if (error instanceof Resumable.Stopped) {
        row.state = "paused";
        row.note.textContent = `Paused at ${size(row.bar.value)}.`;
      } else {
        fail(row, error.message);
      }
    }
    row.pause.textContent = row.state === "sending" ? "Pause" : "Continue";
    row.pause.setAttribute("aria-label", `${row.pause.textContent} ${row.name}`);
    row.pause.hidden = !["paused", "failed"].includes(row.state);
  };
  const finish = async (parts, name) => {
    const watch = watchOf(parts[0]);
    watch.broken = () => { for (const row of parts) row.note.textContent = "The server checks what has come …"; };
    const content = { uploads: parts.map((row) => row.address.split("/").pop()), name };
    for (const wish of ["mode", "split_by", "split_column"]) content[wish] = new FormData(form).get(wish) || "";
    if (root && parts.some((row) => row.table)) content.root = new FormData(form).get("root") || "";
    const answer = await Resumable.insist(() => Resumable.post(form.dataset.finish, content, watch.signal), watch);
    for (const row of parts) {
      Object.assign(row, { state: "done", used: true, page: answer.page });
      row.input.disabled = true;
      row.drop.hidden = true;
      row.note.replaceChildren(make("a", { href: answer.page, textContent: "Received; see how it is read" }));
    }
  };

  const run = async () => {
    if (busy) return;
    busy = true;
    send.disabled = true;
    for (let row; (row = rows.find((one) => one.state === "chosen"));) {
      say(`Uploading ${row.name} …`);
      row.pause.hidden = false;
      row.pause.textContent = "Pause";
      row.pause.setAttribute("aria-label", `Pause ${row.name}`);
      await attempt(row, transfer);
      if (row.state === "sent" && !together()) await attempt(row, () => finish([row], row.input.value));
    }
    const sent = rows.filter((row) => row.state === "sent");
    if (sent.length && together() && rows.every((row) => ["sent", "bad"].includes(row.state))) {
      await attempt(sent.find((row) => !row.table) || sent[0], () => finish(sent, whole.value));
    }
    busy = false;
    send.disabled = false;
    end();
  };
  const end = () => {
    const done = rows.filter((row) => row.state === "done");
    if (rows.length && done.length === rows.length) {
      say("All received.");
      location.href = new Set(done.map((row) => row.page)).size === 1 ? done[0].page : form.dataset.after;
      return;
    }
    const paused = rows.some((row) => row.state === "paused");
    say(`${done.length} of ${rows.length} received; ${paused ? "continue what is paused." : "see what is wrong with the others."}`);
  };

  // -- what the page is told
  const walk = async (entry, path, found) => {
    if (entry.isFile) {
      found.push([path, await new Promise((resolve, reject) => entry.file(resolve, reject))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) { // a hundred at a time
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one, path ? `${path}/${one.name}` : one.name, found);
    }
  };
  const takeDropped = async (transfer) => {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...transfer.files];
    if (!entries.some((entry) => entry.isDirectory)) { addAll(files.map(fromFile)); return; }
    for (const entry of entries) {
      const found = [];
      try { await walk(entry, entry.isFile ? entry.name : "", found); } catch { say(`${entry.name} cannot be read.`); continue; }
      if (entry.isFile) addAll([fromFile(found[0][1])]);
      else if (found.length) addAll([fromFolder(entry.name, found)]);
    }
  };
  find("unchecked").hidden = Boolean(window.crypto?.subtle);
  input.multiple = true;
  input.accept = [...archives, ".gz", ".bz2", ".xz", ...tables].join(",");
  input.addEventListener("change", () => { addAll([...input.files].map(fromFile)); input.value = ""; });
  find("choose-folder").hidden = false;
  find("choose-folder").addEventListener("click", () => folder.click());
  folder.addEventListener("change", () => {
    const files = [...folder.files];
    folder.value = "";
    if (!files.length) return;
    const [top] = files[0].webkitRelativePath.split("/");
    addAll([fromFolder(top, files.map((file) => [file.webkitRelativePath.slice(top.length + 1), file]))]);
  });
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); takeDropped(event.dataTransfer); });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  shape.addEventListener("change", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    delete form.dataset.sent;
    for (const row of rows) if (["paused", "failed"].includes(row.state)) row.state = "chosen";
    run();
  });
  const looked = look();
})();
