// Paper has no mouse: what is folded is printed open.
const opened = [];
addEventListener("beforeprint", () => {
  opened.push(...document.querySelectorAll("main details:not([open])"));
  opened.forEach((one) => { one.open = true; });
});
addEventListener("afterprint", () => opened.splice(0).forEach((one) => { one.open = false; }));

// A page from disk may not read others, of which search would show a few lines.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
