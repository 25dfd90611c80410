// A front end gets one module from a widget. This one makes an address for each of our modules, in the order in which
// they need each other, so that they stay as they are written. `widget.py` writes `sources`, text by name, before this.

const addresses = {};
for (const [name, source] of Object.entries(sources)) {
  const text = source.replace(/ from "\.\/(.+?)";/g, (_, other) => ` from "${addresses[other]}";`);
  addresses[name] = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
}
export default (await import(addresses["kernel.js"])).default;
