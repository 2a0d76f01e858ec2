"use strict";
(() => {
  const figures = [...document.querySelectorAll(".pair")];
  const slider = document.getElementById("slider");
  if (!slider || figures.length < 2) return;
  document.documentElement.classList.add("js");
  const show = (index) => {
    figures.forEach((figure, k) => figure.classList.toggle("away", k !== index));
    slider.setAttribute("aria-valuetext", figures[index].querySelector("strong").textContent);
  };
  slider.max = String(figures.length - 1);
  slider.value = String(Math.max(0, figures.findIndex((figure) => figure.classList.contains("start"))));
  slider.addEventListener("input", () => show(Number(slider.value)));
  document.getElementById("pictures").addEventListener("wheel", (event) => {
    if (event.ctrlKey || !event.target.closest(".frame-box")) return;
    event.preventDefault();
    slider.value = String(Number(slider.value) + Math.sign(event.deltaY));
    show(Number(slider.value));
  }, { passive: false });
  show(Number(slider.value));
})();
