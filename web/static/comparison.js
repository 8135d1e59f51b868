// Draws the charts of a submission that the server describes, and keeps them fresh.
(async () => {
  const box = document.getElementById("charts");
  if (!box || !window.Bokeh) return;
  Bokeh.set_log_level("error");
  const keys = document.getElementById("curve-keys");
  const none = document.getElementById("no-points");
  const drawn = document.getElementById("drawn");
  const { models, paint } = trainyardCharts;
  // With the first points: empty charts would say nothing, at length.
  const draw = async () => {
    const answer = await fetch(box.dataset.charts);
    if (!answer.ok) throw new Error(answer.status);
    drawn.hidden = false;
    for (const item of await answer.json()) await Bokeh.embed.embed_item(item);
    paint();
    document.addEventListener("themechange", paint);
  };

  const drawLine = (place) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "swatch");
    svg.setAttribute("viewBox", "0 0 28 10");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(svg.namespaceURI, "path");
    line.setAttribute("d", "M0 5H28");
    line.setAttribute("stroke-width", "3");
    line.style.stroke = `var(--ty-line-${place % 6})`;
    if (place >= 6) line.setAttribute("stroke-dasharray", "6 4");
    svg.append(line);
    return svg;
  };
  const makeKey = (key, place) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = box.dataset.job.replace("/0", `/${key.job}`);
    link.textContent = `Job ${key.job}`;
    const words = [key.best ? "best" : "", key.words].filter(Boolean).join(" · ");
    const told = document.createElement("span");
    told.textContent = words;
    item.append(drawLine(place), link, told);
    return item;
  };
  const show = async (state) => {
    none.hidden = state.keys.length > 0;
    if (drawn.hidden && state.keys.length) await draw();
    for (const model of models()) {
      if (model.type === "ColumnDataSource" && state.columns[model.name]) model.data = state.columns[model.name];
    }
    keys.replaceChildren(...state.keys.map(makeKey));
  };
  let last = "";
  const refresh = async () => {
    const answer = await fetch(box.dataset.points, { cache: "no-cache" });
    // Ended, deleted, or signed out: nothing more will come.
    if (answer.headers.get("X-Poll") === "stop" || answer.status === 404 || answer.redirected) delete box.dataset.live;
    if (!answer.ok) return;
    const text = await answer.text();
    if (text === last) return;
    await show(JSON.parse(text));
    last = text;
  };
  for (let first = true; first || box.dataset.live; first = false) {
    if (!first) await new Promise((done) => setTimeout(done, Number(box.dataset.seconds) * 2000));
    if (first || !document.hidden) try { await refresh(); } catch { /* the next one may work */ }
  }
})();
