// Which networks answer, and on what they were tested.

import { make, percent } from "./dom.js";

const MANY = 1000; // test pictures from which their number says little more

/** Says how well a network did, and on what; never beside an answer, which may be wrong. */
export function tested({ accuracy, pictures, kind }) {
  if (accuracy == null) return "not tested";
  const number = pictures == null || pictures >= MANY ? "" : `${pictures} `;
  return `right on ${percent(accuracy)} of ${number}test ${kind}`;
}

export function networksView(page) {
  const { networks, together } = page.about;
  if (networks.length < 2) return [];
  const rows = networks.map((network, index) => {
    const isChosen = page.chosen.includes(network.key);
    const input = make("input", {
      id: `network-${index}`,
      "data-testid": "network",
      type: "checkbox",
      checked: isChosen,
      // Somebody has to answer, and not too many at once.
      disabled: isChosen ? page.chosen.length === 1 : page.chosen.length >= together,
      onchange: () => page.toggleNetwork(network.key),
    });
    return make("label.check", input, make("span", make("b", network.name), " ", make("span.soft", tested(network.tested))));
  });
  const hint = make("p.soft", "Choose several to see their answers side by side.");
  return [make("fieldset.networks", make("legend", "Who answers"), hint, rows)];
}
