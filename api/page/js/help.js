// Opens the short help, by its button or by the key "?".

import { byId, isTyping } from "./dom.js";

export function installHelp() {
  const dialog = byId("help");
  const open = () => document.querySelector("dialog[open]") ?? dialog.showModal();
  byId("help-open").addEventListener("click", open);
  byId("help-close").addEventListener("click", () => dialog.close());
  // The content covers the whole dialog, so a click on the dialog itself was beside it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !isTyping(event)) open();
  });
}
