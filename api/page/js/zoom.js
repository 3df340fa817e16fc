// Zooms and moves several panes together.

/** The largest zoom, which nearly shows the single pixels of a preview. */
const MOST = 12;
const STEP = 1.3;
const NUDGE = 0.08;

const KEYS = {
  "+": (view) => view.zoom(STEP),
  "=": (view) => view.zoom(STEP),
  "-": (view) => view.zoom(1 / STEP),
  0: (view) => view.reset(),
  ArrowLeft: (view) => view.move(NUDGE, 0),
  ArrowRight: (view) => view.move(-NUDGE, 0),
  ArrowUp: (view) => view.move(0, NUDGE),
  ArrowDown: (view) => view.move(0, -NUDGE),
};

export class Zoom {
  #panes;
  #pointers = new Map();
  // The image's centre is (x, y) pane widths and heights from the pane's, `scale` times as large.
  #scale = 1;
  #x = 0;
  #y = 0;

  /** @param {HTMLElement[]} panes each contains one child, which moves */
  constructor(panes) {
    this.#panes = panes;
    for (const pane of panes) {
      pane.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
      pane.addEventListener("pointerdown", (event) => this.#down(event));
      pane.addEventListener("pointermove", (event) => this.#drag(event));
      for (const end of ["pointerup", "pointercancel"]) {
        pane.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
      }
    }
    this.#draw();
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key was one of ours */
  key(event) {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    act?.(this);
    return Boolean(act);
  }

  /** @param {number} factor @param {number} [x] the fixed point, from the centre, in pane widths */
  zoom(factor, x = 0, y = 0) {
    const scale = Math.min(Math.max(this.#scale * factor, 1), MOST);
    const grown = scale / this.#scale;
    this.#x = x - (x - this.#x) * grown;
    this.#y = y - (y - this.#y) * grown;
    this.#scale = scale;
    this.#draw();
  }

  move(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#draw();
  }

  reset() {
    this.#scale = 1;
    this.#draw();
  }

  #draw() {
    // The image never leaves the pane: its edge goes no further than the edge of the pane.
    const room = (this.#scale - 1) / 2;
    this.#x = Math.min(Math.max(this.#x, -room), room);
    this.#y = Math.min(Math.max(this.#y, -room), room);
    for (const pane of this.#panes) {
      const moved = `translate(${this.#x * 100}%, ${this.#y * 100}%) scale(${this.#scale})`;
      pane.firstElementChild.style.transform = moved;
      pane.classList.toggle("zoomed", this.#scale > 1);
    }
  }

  #wheel(event) {
    event.preventDefault();
    const { x, y } = from(event, event.currentTarget);
    this.zoom(Math.exp(-event.deltaY / 400), x, y);
  }

  #down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, from(event, event.currentTarget));
  }

  /** One finger moves, two zoom. */
  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = from(event, event.currentTarget);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y) || 1e-3;
      this.zoom(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      this.move(now.x - before.x, now.y - before.y);
    }
    this.#pointers.set(event.pointerId, now);
  }
}

function from(event, pane) {
  const { left, top, width, height } = pane.getBoundingClientRect();
  return { x: (event.clientX - left) / width - 0.5, y: (event.clientY - top) / height - 0.5 };
}
