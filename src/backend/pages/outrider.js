// Keeps an open page up to date: replaces the fragments that the backend sends, appends to the log, and counts times.
'use strict';

const LOG_LINES = 2000; // Older lines leave the page; the backend still has them.
const state = document.getElementById('live-state');
const log = document.getElementById('log');
const shown = {}; // What was last set of each fragment.

function toEnd() { if (log) log.scrollTop = log.scrollHeight; }

function append(html) {
  if (!log || !html) return;
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  log.insertAdjacentHTML('beforeend', html);
  while (log.childElementCount > LOG_LINES) log.firstElementChild.remove();
  if (atEnd) toEnd();
}

function connect() {
  const source = new EventSource(document.body.dataset.live);
  source.onopen = () => { state.className = 'live on'; state.textContent = 'live'; };
  source.onerror = () => {
    state.className = 'live off';
    state.textContent = 'offline';
    // A closed stream is not opened again by the browser itself: perhaps the backend was restarted.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  };
  source.onmessage = (event) => {
    const patch = JSON.parse(event.data);
    for (const [id, html] of Object.entries(patch.set)) {
      const element = document.getElementById(id);
      // A stream that was opened again sends everything: a form that somebody fills in stays as it is.
      if (element && shown[id] !== html) element.innerHTML = html;
      shown[id] = html;
    }
    append(patch.log);
    times();
  };
}

function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
}

function times() {
  const now = Date.now();
  for (const element of document.querySelectorAll('time[data-ago]')) {
    const seconds = (now - Date.parse(element.dateTime)) / 1000;
    if (seconds < -1) element.textContent = `in ${span(-seconds)}`;
    else element.textContent = seconds < 2 ? 'now' : `${span(seconds).replace(/ (min|h) .*/, ' $1')} ago`;
  }
  for (const element of document.querySelectorAll('time[data-clock]')) {
    const time = new Date(element.dateTime);
    const far = Math.abs(time - now) > 43200000;
    element.textContent = time.toLocaleString([], { hour: '2-digit', minute: '2-digit', ...(far && { day: 'numeric', month: 'short' }) });
  }
  for (const element of document.querySelectorAll('time[data-since]')) {
    element.textContent = span(Math.max(0, (now - Date.parse(element.dateTime)) / 1000));
  }
}

if (document.body.dataset.live) {
  toEnd();
  times();
  setInterval(times, 1000);
  connect();
}
