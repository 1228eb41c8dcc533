// The one script that a page asks for before it is painted: it waits for that, then fetches what the page needs.
// Nothing that scripts do is needed for the first paint, and fetching them would hold it up.
if (!document.hidden) await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const { script } = document.body.dataset;
await Promise.all((script ? ["app", script] : ["app"]).map((name) => import(`./${name}.js`)));
document.documentElement.dataset.scripts = "running"; // what tests wait for
