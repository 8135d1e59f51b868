// Findings: many are ticked at once, the bar says how many, accepting leaves the page as it is.
(() => {
  const form = document.getElementById("findings");
  const tally = document.getElementById("tally");
  const page = document.getElementById("tick-page");
  const kind = document.getElementById("tick-kind");
  const action = document.getElementById("bar-action");
  const deal = document.getElementById("deal-by");
  const decide = document.getElementById("decide");
  const find = (selector) => [...form.querySelectorAll(selector)];
  const words = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
  let sent = false;

  const own = () => find("[name^='do:']:checked").filter((choice) => choice.value);
  const tell = () => {
    const ticks = find("[name='chosen']");
    const ticked = ticks.filter((tick) => tick.checked).length;
    page.checked = ticks.length > 0 && ticked === ticks.length;
    page.indeterminate = ticked > 0 && ticked < ticks.length;
    const many = kind && kind.checked ? Number(kind.dataset.number) : ticked;
    const said = [words(many, "finding ticked", "findings ticked")];
    if (own().length) said.push(`${own().length.toLocaleString("en")} with a choice of its own`);
    tally.textContent = many || own().length ? `${said.join(", ")}.` : "Tick findings, or choose for each.";
  };
  // What a choice needs is shown with it; without script all of it is.
  const fit = () => {
    const chosen = new Set([action && action.value, deal && deal.value, ...own().map((choice) => choice.value)]);
    for (const part of find("[data-for]")) {
      part.hidden = !part.dataset.for.split(" ").some((name) => name === "relabel"
        ? action.value === name : chosen.has(name));
    }
  };

  for (const part of find("[data-script]")) part.hidden = false;
  page.addEventListener("change", () => {
    for (const tick of find("[name='chosen']")) tick.checked = page.checked;
  });
  form.addEventListener("change", (event) => {
    const { name } = event.target;
    if (name.startsWith("label:")) { // who names a label means it
      form.elements[`do:${name.slice(6)}`].value = "relabel";
    }
    tell();
    fit();
  });

  const drop = (card, said) => {
    const next = card.nextElementSibling || card.previousElementSibling
      || find("[data-finding]").find((other) => other !== card);
    card.remove();
    for (const [name, by] of [[card.dataset.finding, -1], ["all", -1], ["accepted", said === "accepted" ? 1 : -1]]) {
      const number = document.querySelector(`[data-tally="${name}"]`);
      if (number) number.textContent = (Number(number.textContent.replaceAll(",", "")) + by).toLocaleString("en");
    }
    if (!next) { sent = true; location.reload(); return; }
    next.querySelector("[name='chosen']").focus();
    tell();
    tally.textContent = `The finding is ${said}. ${tally.textContent}`;
  };
  form.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-now]");
    if (!button) return;
    event.preventDefault();
    const body = new URLSearchParams({
      csrf_token: form.elements.csrf_token.value, version: form.elements.version.value, [button.name]: button.value,
    });
    button.disabled = true;
    try {
      const answer = await fetch(button.formAction, {
        method: "POST", body, headers: { Accept: "application/json" }, redirect: "manual",
      });
      if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error((await answer.json()).detail);
      drop(button.closest("[data-finding]"), button.dataset.now === "accept" ? "accepted" : "shown again");
    } catch (error) {
      button.disabled = false;
      tally.textContent = error instanceof TypeError ? "The server does not answer. Try again." : error.message;
    }
  });

  // Deciding may take longer than a page waits before it takes a second click for meant.
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
    if (decide) setTimeout(() => { decide.disabled = true; }); // not before it is sent
  });
  addEventListener("pageshow", () => {
    sent = false;
    if (decide) decide.disabled = false;
    tell();
    fit();
  });
  addEventListener("beforeunload", (event) => {
    if (!sent && (own().length || find("[name='chosen']:checked").length)) event.preventDefault();
  });
})();
