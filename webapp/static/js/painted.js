// Nothing that scripts do is needed for the first paint, so every page's scripts wait for it.
export const painted = new Promise((done) => {
  if (document.hidden) done(); // a page in the background is not painted
  else requestAnimationFrame(() => setTimeout(done));
});
