"""What our HTML pages do by themselves: sliders, and a look at their own pictures.

Without the script a page shows all steps of a slider below one another, as on paper.
"""

from __future__ import annotations

SCRIPT = """
"use strict";
for (const player of document.querySelectorAll(".player")) {
  const steps = [...player.querySelectorAll(".step")];
  const slider = player.querySelector("input");
  const button = player.querySelector("button");
  const told = player.querySelector("output");
  let timer = null;
  const show = (index) => {
    steps.forEach((step, place) => { step.hidden = place !== index; });
    slider.value = index;
    told.textContent = steps[index].dataset.name;
    player.dataset.shown = index;
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  slider.max = steps.length - 1;
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (timer !== null) { stop(); return; }
    button.textContent = "Pause";
    timer = setInterval(() => show((Number(slider.value) + 1) % steps.length), 250);
  });
  player.classList.add("live");
  show(0);
  window.addEventListener("beforeprint", () => {
    stop(); player.classList.remove("live"); steps.forEach((step) => { step.hidden = false; });
  });
  window.addEventListener("afterprint", () => { player.classList.add("live"); show(0); });
}
window.addEventListener("load", () => {
  const root = document.documentElement;
  const pictures = [...document.images];
  const isBroken = (picture) => picture.naturalWidth === 0 || picture.naturalHeight === 0;
  root.dataset.pictures = pictures.length;
  root.dataset.broken = pictures.filter(isBroken).length;
  root.dataset.overflow = Math.max(0, root.scrollWidth - root.clientWidth);
});
"""
