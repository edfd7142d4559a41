// Ask again and again while the page is looked at.

const PATIENCE_MS = 1000;

export async function polling(signal, everyMs, once, onError) {
  while (!signal.aborted) {
    let wait = everyMs;
    try {
      if (!document.hidden) await once();
    } catch (error) {
      if (signal.aborted) return;
      onError(error);
      if (error.status === 401 || error.status === 404) return;
      wait = Math.max(everyMs, PATIENCE_MS);
    }
    await pause(wait, signal);
  }
}

export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
