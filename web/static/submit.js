// Says how many jobs the form makes, finds boxes by name, and knows the time zone.
(() => {
  const form = document.getElementById("submit");
  if (!form) return;
  const tally = document.getElementById("tally");
  const go = document.getElementById("go");
  const sweep = document.getElementById("sweep");
  let swept = { trainings: 1 };
  const ticked = (name) => form.querySelectorAll(`input[name="${name}"]:checked`).length;
  const say = () => {
    const [d, p, b] = ["dataset", "preset", "base_model"].map(ticked);
    const jobs = d * p * b * (swept.trainings || 1);
    const missing = [!d && "a dataset", !p && "a preset", !b && "a base model"].filter(Boolean);
    const words = (n, one, many) => `${n} ${n === 1 ? one : many}`;
    const most = Number(tally.dataset.most);
    const times = swept.trainings > 1 ? ` × ${swept.trainings} in the sweep` : "";
    if (missing.length) tally.textContent = `Choose ${missing.join(" and ")}.`;
    else if (swept.problem) tally.textContent = `The sweep: ${swept.problem}`;
    else if (jobs > most) tally.textContent = `This makes ${jobs} jobs; one submission makes at most ${most}.`;
    else tally.textContent = `This makes ${words(jobs, "job", "jobs")}: ${words(d, "dataset", "datasets")} × ${words(p, "preset", "presets")} × ${words(b, "base model", "base models")}${times}.`;
    const anyway = document.querySelector("#shortages .notice") ? " anyway" : "";
    go.textContent = (jobs > 1 && !swept.problem ? `Submit ${jobs} jobs` : "Submit") + anyway;
    go.disabled = missing.length > 0 || jobs > most;
  };
  form.addEventListener("change", say);
  document.addEventListener("expected", say);
  for (const input of document.querySelectorAll("[data-filter]")) {
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      for (const box of document.querySelectorAll(input.dataset.filter)) {
        const kept = box.textContent.toLowerCase().includes(wanted) || box.querySelector("input").checked;
        box.hidden = !kept;
        box.classList.toggle("d-none", !kept);
      }
    });
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  }

  // The server counts a sweep, by the very code that will make its jobs. It is sent as a
  // form, since a thousand values are too many for an address.
  const ask = () => {
    const fields = [...sweep.querySelectorAll("[name]")].filter((field) => field.value);
    return new URLSearchParams(fields.map((field) => [field.name, field.value])).toString();
  };
  let asked = "", waiting = 0;
  const count = async () => {
    const query = ask();
    if (query === asked) return;
    asked = query;
    try {
      const token = form.elements.csrf_token.value;
      const answer = await fetch(sweep.dataset.count, {
        method: "POST", headers: { "X-CSRFToken": token }, body: new URLSearchParams(query),
      });
      if (!answer.ok) throw new Error(answer.status);
      const found = await answer.json();
      if (query !== asked) return; // typed on meanwhile: another answer is on its way
      swept = found;
      say();
    } catch { asked = ""; /* counted at the next change, and by the answer in any case */ }
  };
  const tell = (row) => {
    const name = row.querySelector("select").value;
    const help = name && document.getElementById(`h-${name}`);
    row.querySelector(".form-text").textContent = help ? help.textContent : "";
    const field = name && document.getElementById(`f-${name}`);
    const choices = field && field.options ? [...field.options].map((one) => one.value).filter(Boolean) : [];
    row.querySelector("input").placeholder = choices.join(", ") || (field ? `such as ${field.placeholder}` : "");
  };
  const rows = document.getElementById("sweep-rows");
  const more = document.getElementById("add-row");
  more.hidden = false;
  more.addEventListener("click", () => {
    const last = rows.lastElementChild;
    const place = rows.children.length;
    const row = last.cloneNode(true);
    for (const field of row.querySelectorAll("[name]")) {
      field.name = field.name.replace(/\d+/, place);
      field.removeAttribute("aria-invalid");
      if (field.id) field.id = field.id.replace(/\d+/, place);
      if (field.hasAttribute("aria-describedby")) field.setAttribute("aria-describedby", `h-sweep.${place}`);
      if (field.tagName === "SELECT") field.selectedIndex = 0;
      else field.value = "";
    }
    row.querySelector("legend").textContent = `Setting ${place + 1} of the sweep`;
    row.querySelector(".form-text").id = `h-sweep.${place}`;
    for (const wrong of row.querySelectorAll(".tone-error")) wrong.remove();
    tell(row);
    rows.append(row);
    more.hidden = rows.children.length >= Number(sweep.dataset.most);
    row.querySelector("select").focus();
  });
  sweep.addEventListener("input", (event) => {
    const row = event.target.closest("[data-row]");
    if (row) tell(row);
    if (row && event.target.value.includes(":")) row.querySelector("[name$=how]").value = "drawn";
    clearTimeout(waiting);
    waiting = setTimeout(count, 300);
  });

  // `not_before` is typed in local time: the server is told how far that is from UTC,
  // which depends on the day.
  const moment = document.getElementById("not_before");
  const zone = document.getElementById("zone");
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.getElementById("zone-words").textContent = `in your time zone${name ? `, ${name}` : ""}`;
  const locate = () => {
    const minutes = moment.value ? -new Date(moment.value).getTimezoneOffset() : 0;
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    zone.value = moment.value ? `${minutes < 0 ? "-" : "+"}${two(Math.abs(minutes) / 60)}:${two(Math.abs(minutes) % 60)}` : "";
  };
  moment.addEventListener("input", locate);

  const start = () => {
    for (const row of rows.children) tell(row);
    locate();
    say();
    count();
  };
  addEventListener("pageshow", start);
  start();
})();
