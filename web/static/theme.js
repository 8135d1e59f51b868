// Runs before the first paint: the chosen theme, or the system's.
(() => {
  const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => { document.documentElement.dataset.bsTheme = theme; };
  apply(stored || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => { if (!stored) apply(dark.matches ? "dark" : "light"); });
})();
