
// One clip plays at a time, and as slowly as one wants to look. The page is whole without it.
(() => {
  "use strict";
  const videos = [...document.querySelectorAll("video")];
  for (const video of videos) {
    video.addEventListener("play", () => videos.forEach((other) => { if (other !== video) other.pause(); }));
    const speeds = video.parentElement.querySelector(".speeds");
    const buttons = [...speeds.querySelectorAll("button")];
    speeds.hidden = false;
    for (const button of buttons) {
      button.addEventListener("click", () => {
        video.playbackRate = Number(button.dataset.speed);
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        video.play();
      });
    }
  }
})();
