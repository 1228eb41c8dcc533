// The one script that a page loads before its first paint. It waits for the paint, which needs no script, and
// then loads the others.
if (!document.hidden) await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const { script } = document.body.dataset;
await Promise.all((script ? ["app", script] : ["app"]).map((name) => import(`./${name}.js`)));
document.documentElement.dataset.scripts = "running"; // what tests wait for
