// Commands to try, one a line.

import { html } from "../html.js";
import { Copy } from "./copy.js";

export function Commands({ lines }) {
  return html`<ul class="commands">
    ${lines.map((line) => html`<li key=${line}><${Copy} text=${line} what="the command" /></li>`)}
  </ul>`;
}
