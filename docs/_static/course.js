// A formula wider than the page scrolls: let the keyboard reach it, as the theme does for code and tables.
window.addEventListener("load", () => {
  const reachable = () => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      formula.toggleAttribute("tabindex", false);
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    }
  };
  window.MathJax?.startup.promise.then(reachable);
  window.addEventListener("resize", reachable);
});
