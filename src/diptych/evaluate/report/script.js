(() => {
  "use strict";
  const root = document.documentElement;
  const keep = (name) => { try { localStorage.setItem("diptych-theme", name); } catch { /* a page without storage forgets the choice */ } };
  const kept = () => { try { return localStorage.getItem("diptych-theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  const button = document.getElementById("theme");
  const tell = () => button.setAttribute("aria-pressed", String(dark()));
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; keep(root.dataset.theme); tell(); });
  tell();
  for (const copy of document.querySelectorAll(".copy")) {
    copy.addEventListener("click", async () => {
      const code = copy.parentElement.querySelector("code");
      let word = "Copied";
      try { await navigator.clipboard.writeText(code.textContent); }
      catch { getSelection().selectAllChildren(code); word = "Press Ctrl+C"; }
      copy.textContent = word;
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
  }
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], .numbers, .unprinted)")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of opened) each.open = false; opened = []; });
})();
