// Says how many jobs the ticked boxes make, and finds boxes by name.
(() => {
  const form = document.getElementById("submit");
  if (!form) return;
  const tally = document.getElementById("tally");
  const go = document.getElementById("go");
  const ticked = (name) => form.querySelectorAll(`input[name="${name}"]:checked`).length;
  const say = () => {
    const [d, p, b] = ["dataset", "preset", "base_model"].map(ticked);
    const jobs = d * p * b;
    const missing = [!d && "a dataset", !p && "a preset", !b && "a base model"].filter(Boolean);
    const words = (n, one, many) => `${n} ${n === 1 ? one : many}`;
    const most = Number(tally.dataset.most);
    if (missing.length) tally.textContent = `Choose ${missing.join(" and ")}.`;
    else if (jobs > most) tally.textContent = `This makes ${jobs} jobs; one submission makes at most ${most}.`;
    else tally.textContent = `This makes ${words(jobs, "job", "jobs")}: ${words(d, "dataset", "datasets")} × ${words(p, "preset", "presets")} × ${words(b, "base model", "base models")}.`;
    go.textContent = jobs > 1 ? `Submit ${jobs} jobs` : "Submit";
    go.disabled = missing.length > 0 || jobs > most;
  };
  form.addEventListener("change", say);
  addEventListener("pageshow", say);
  say();
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
})();
