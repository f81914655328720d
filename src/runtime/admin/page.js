// Looks at the page again, in place: without it, the page reloads as a whole.
(() => {
  "use strict";
  const seconds = Number(document.body.dataset.reload);
  const state = document.getElementById("reload");
  if (!seconds || !state) return;
  const told = state.textContent;
  let since = null;

  // Whoever types, or marks text to copy it, is not disturbed.
  const busy = () => {
    const at = document.activeElement;
    return document.hidden || (at && at.closest("form")) || !getSelection().isCollapsed;
  };

  const take = (next, now) => {
    const open = [...now.querySelectorAll("details")].map((part) => part.open);
    next.querySelectorAll("details").forEach((part, at) => { part.open = Boolean(open[at]); });
    const left = [...now.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
    const links = (where) => [...where.querySelectorAll("a, summary, .scroll")];
    const at = links(now).indexOf(document.activeElement);
    now.replaceWith(next);
    next.querySelectorAll(".scroll").forEach((part, at) => { part.scrollLeft = left[at] || 0; });
    const focused = at < 0 ? null : links(next)[at];
    if (focused) focused.focus({ preventScroll: true });
  };

  const look = async () => {
    if (busy()) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (busy()) return;
      for (const id of ["content", "ready"]) {
        const [next, now] = [fresh, document].map((from) => from.getElementById(id));
        if (next && now) take(next, now);
      }
      document.title = fresh.title;
      since = null;
      state.textContent = told;
      state.classList.remove("late");
    } catch {
      since = since || new Date();
      state.textContent = "no answer since " + since.toLocaleTimeString() + " ";
      state.classList.add("late");
    }
  };
  setInterval(look, seconds * 1000);
})();
