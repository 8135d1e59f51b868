// What every page needs: the theme button, back links, parts that refresh themselves.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.bsTheme); } catch { /* private mode */ }
    document.dispatchEvent(new CustomEvent("themechange"));
  });
  for (const link of document.querySelectorAll("[data-back]")) {
    if (!document.referrer.startsWith(location.origin)) continue;
    link.hidden = false;
    link.addEventListener("click", (event) => { event.preventDefault(); history.back(); });
  }
  // A second click on a button that sends a form does nothing.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    setTimeout(() => { delete form.dataset.sent; }, 4000);
  });
  addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });

  // <div data-poll="/address" data-seconds="2">: replaced part by part when it changed.
  // Parts with an id are replaced only when they differ, so that the keyboard's focus,
  // the selection and the scroll position of the others stay.
  // A box that follows its end goes on doing so until someone scrolls it up.
  const atEnd = (box) => box.scrollHeight - box.clientHeight - box.scrollTop < 4;
  const boxes = (part) => [part, ...part.querySelectorAll("[tabindex][aria-label]")];
  const remember = (part) => new Map(boxes(part).map((box) => [box.getAttribute("aria-label"), {
    top: box.scrollTop, left: box.scrollLeft, end: "follow" in box.dataset && atEnd(box),
  }]));
  const scrollBack = (part, kept) => {
    for (const box of boxes(part)) {
      const was = kept.get(box.getAttribute("aria-label"));
      if (was) box.scrollTo(was.left, was.end ? box.scrollHeight : was.top);
    }
  };
  const swap = (old, fresh) => {
    const kept = remember(old);
    old.replaceWith(fresh);
    scrollBack(fresh, kept);
  };
  for (const box of document.querySelectorAll("[data-follow]")) box.scrollTop = box.scrollHeight;
  const replace = (container, html) => {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const parts = fresh.content.querySelectorAll("[data-part]");
    const before = container.querySelectorAll("[data-part]");
    const same = parts.length === before.length &&
      [...parts].every((part, place) => part.id === before[place].id); // in this order, too
    const focused = document.activeElement && container.contains(document.activeElement)
      ? ["id", "href", "aria-label"].map((name) => [name, document.activeElement.getAttribute(name)])
        .find(([, value]) => value) : null;
    if (same && parts.length) {
      for (const part of parts) {
        const old = document.getElementById(part.id);
        if (old.outerHTML !== part.outerHTML) swap(old, part);
      }
    } else {
      const kept = remember(container);
      container.replaceChildren(fresh.content);
      scrollBack(container, kept);
    }
    if (focused && !container.contains(document.activeElement)) {
      const again = container.querySelector(`[${focused[0]}="${CSS.escape(focused[1])}"]`);
      if (again) again.focus({ preventScroll: true });
    }
  };
  const poll = async (container) => {
    const seconds = Number(container.dataset.seconds || 2);
    let failures = 0;
    for (;;) {
      await new Promise((done) => setTimeout(done, seconds * 1000 * Math.min(8, 1 + failures)));
      if (document.hidden || container.dataset.held) continue;
      try {
        const answer = await fetch(container.dataset.poll, { cache: "no-cache", redirect: "manual" });
        if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
        if (answer.status === 404) return;
        if (!answer.ok) throw new Error(answer.status);
        failures = 0;
        const text = await answer.text();
        if (text !== container.lastText && !container.dataset.held) {
          container.lastText = text;
          replace(container, text);
          document.dispatchEvent(new CustomEvent("polled", { detail: container }));
        }
        if (answer.headers.get("X-Poll") === "stop") {
          if (container.dataset.reload === "yes") location.reload();
          return;
        }
      } catch { failures += 1; }
    }
  };
  for (const container of document.querySelectorAll("[data-poll]")) poll(container);
})();
