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
