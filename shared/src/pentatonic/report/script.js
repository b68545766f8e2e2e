"use strict";

// A time link moves its player to the stated second and starts it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-player]");
  if (!link) return;
  const player = document.getElementById(link.dataset.player);
  player.currentTime = Number(link.dataset.time);
  player.scrollIntoView({ block: "nearest" });
  player.play().catch(() => {}); // a browser may forbid it; the position is set all the same
  event.preventDefault();
});

// One player sounds at a time. The event does not bubble, so it is caught on its way down.
document.addEventListener(
  "play",
  (event) => {
    for (const player of document.querySelectorAll("audio")) {
      if (player !== event.target) player.pause();
    }
  },
  true,
);

// A dot of a map shows what it is, and plays in the player of the map.
function chooseDot(dot) {
  const map = dot.closest(".map");
  const { about, sound } = JSON.parse(map.querySelector("script").textContent)[dot.dataset.dot];
  map.querySelector("[aria-current]")?.removeAttribute("aria-current");
  dot.setAttribute("aria-current", "true");
  map.querySelector("figcaption").textContent = about.join(" · ") + (sound ? "" : " (no sound in this page)");
  const player = map.querySelector("audio");
  player.pause();
  player.removeAttribute("src");
  if (sound) player.src = document.getElementById(sound)?.src ?? sound; // the id of a player, or a URL
  player.load();
  if (sound) player.play().catch(() => {}); // a browser may forbid it, and a file may be gone
}

document.addEventListener("click", (event) => {
  const dot = event.target.closest("[data-dot]");
  if (dot) chooseDot(dot);
});

document.addEventListener("keydown", (event) => {
  const dot = event.target.closest("[data-dot]");
  if (!dot || (event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault(); // the space bar would scroll
  chooseDot(dot);
});
