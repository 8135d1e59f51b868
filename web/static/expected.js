// Tells what forecasts say of what the form holds, anew at each change of it.
(() => {
  const form = document.getElementById("submit");
  const expected = document.getElementById("expected");
  if (!form || !expected) return;
  const offer = () => {
    for (const button of expected.querySelectorAll("[data-use-base]")) button.hidden = false;
  };
  let asked = new URLSearchParams(new FormData(form)).toString(), waiting = 0;
  const ask = async () => {
    const query = new URLSearchParams(new FormData(form)).toString();
    if (query === asked) return;
    asked = query;
    try {
      const answer = await fetch(expected.dataset.address, {
        method: "POST", body: new URLSearchParams(query),
      });
      if (!answer.ok || answer.redirected) throw new Error(answer.status);
      const text = await answer.text();
      if (query !== asked) return; // changed meanwhile: another answer is on its way
      const fresh = document.createElement("template");
      fresh.innerHTML = text;
      for (const part of fresh.content.querySelectorAll("[data-into]")) {
        document.getElementById(part.dataset.into).replaceChildren(...part.childNodes);
      }
      offer();
      document.dispatchEvent(new CustomEvent("expected"));
    } catch { asked = ""; /* asked again at the next change */ }
  };
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(ask, 300); };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  addEventListener("pageshow", soon);
  // Only who presses the button changes the choice: this base model and no other.
  expected.addEventListener("click", (event) => {
    const button = event.target.closest("[data-use-base]");
    if (!button) return;
    for (const box of form.querySelectorAll('input[name="base_model"]')) box.checked = box.value === button.dataset.useBase;
    const box = form.querySelector('input[name="base_model"]:checked');
    if (box && box.closest("details")) box.closest("details").open = true;
    if (box) { box.dispatchEvent(new Event("change", { bubbles: true })); box.focus(); }
  });
  offer();
})();
