// Markup without a build step: htm's template tag, bound to Preact.

import htm from "./vendor/htm/htm.js";
import { h } from "./vendor/preact/preact.js";

export const html = htm.bind(h);
