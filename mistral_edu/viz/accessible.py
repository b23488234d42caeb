"""What ipywidgets leaves out: names for sliders, a voice for changes, arrows seen on black.

A screen reader finds a slider's handle as a tab stop, but ipywidgets gives it no name, and offers
no attribute to give one. So every explorer carries one hidden HTML widget with the style sheet
below, and a handler that runs when the browser has loaded it: it copies each row's label onto the
row's handle and makes the summary a live region. Where a page forbids such handlers the labelled
boxes beside the sliders still do everything.

Conventions
    Lengths of powers of two are chosen by index, so their handle also says the chosen number.
"""

import html
from urllib.parse import quote

import ipywidgets as widgets

# Out of sight, yet read aloud: `display: none` would hide words from a screen reader too.
HIDDEN = (
    "position:absolute;width:1px;height:1px;margin:-1px;padding:0;overflow:hidden;"
    "clip:rect(0,0,0,0);white-space:nowrap;border:0"
)
# A grey with a contrast of at least 3 to 1 on white and on JupyterLab's black.
_ARROW = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'>"
    "<path d='M5 7l4 4 4-4' fill='none' stroke='#8a8a8a' stroke-width='2'/></svg>"
)
_SHEET = (
    f".medu-explorer .medu-summary{{{HIDDEN}}}"
    # The picture scrolls sideways, the controls above it stay.
    ".medu-explorer .widget-html-content{min-width:0}"
    ".medu-explorer{position:relative;--jp-widgets-dropdown-arrow:"
    f"url(data:image/svg+xml,{quote(_ARROW)})}}"
)
_HANDLER = """
const root = this.closest('.medu-explorer');
const speak = () => {
  root.querySelector('.medu-summary')?.setAttribute('aria-live', 'polite');
  for (const row of root.querySelectorAll('.medu-row')) {
    const handle = row.querySelector('.noUi-handle'), list = row.querySelector('select');
    if (!handle) continue;
    handle.setAttribute('aria-label', row.querySelector('label:not(:empty)')?.textContent ?? '');
    const chosen = list?.options[Number(handle.getAttribute('aria-valuenow'))]?.text;
    if (chosen && handle.getAttribute('aria-valuetext') !== chosen)
      handle.setAttribute('aria-valuetext', chosen);
  }
};
new MutationObserver(speak).observe(
  root, {childList: true, subtree: true, attributeFilter: ['aria-valuetext']});
speak();
"""


def manners() -> widgets.HTML:
    """The hidden widget that teaches an explorer's page its manners.

    >>> "aria-label" in manners().value
    True
    """
    handler = html.escape(" ".join(_HANDLER.split()))
    style = f'<style onload="{handler}">{_SHEET}</style>'
    return widgets.HTML(style, layout={"display": "none"})
