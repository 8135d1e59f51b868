// Draws promised against actual waits.
(async () => {
  const box = document.getElementById("chart-promises");
  if (!box || !window.Bokeh) return;
  Bokeh.set_log_level("error");
  const answer = await fetch(box.dataset.chart);
  if (!answer.ok) return;
  const { chart, waits } = await answer.json();
  await Bokeh.embed.embed_item(chart);
  const { models, paint } = trainyardCharts;
  paint();
  document.addEventListener("themechange", paint);
  for (const model of models()) if (model.name === "waits") model.data = waits;
})();
