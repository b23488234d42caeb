"""An explorer under test: what a learner sees of it, and what a screen reader hears."""

from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, expect

from mistral_edu.viz.render import NARROWEST

# A first figure in a cold kernel on a busy machine takes its time; a right one does not wait.
PATIENCE = 30_000
# The widths of a picture, of its place and of what is scrolled there.
WIDTHS = """image => {
  const place = image.closest('figure, .jp-RenderedImage');
  return [image.getBoundingClientRect().width, place.clientWidth, place.scrollWidth];
}"""


@dataclass
class Explored:
    """One explorer in an open lesson."""

    lesson: object
    topic: str

    @property
    def root(self) -> Locator:
        return self.lesson.page.locator(f".medu-explorer.medu-{self.topic}").first

    @property
    def image(self) -> Locator:
        return self.root.locator("img")

    @property
    def words(self) -> Locator:
        return self.root.locator(".medu-summary")

    def number(self, label: str) -> int:
        """The value in the labelled box."""
        return int(
            self.root.get_by_label(label, exact=True).and_(self.root.locator("input")).input_value()
        )

    def slider(self, name: str) -> Locator:
        """The handle that a screen reader announces by this name."""
        return self.root.get_by_role("slider", name=name, exact=True)

    def press(self, name: str, key: str) -> None:
        """Put the cursor on a slider and press a key."""
        self.slider(name).focus()
        self.lesson.page.keyboard.press(key)

    def picture(self) -> str:
        """The pixels, as the address that holds them."""
        return self.image.get_attribute("src")

    def expect_words(self, text: str) -> None:
        """The summary and the alternative text are the given words."""
        expect(self.words).to_have_text(text, timeout=PATIENCE)
        expect(self.image).to_have_attribute("alt", text, timeout=PATIENCE)

    def expect_picture(self, text: str, before: str) -> None:
        """Summary, alternative text and pixels have all moved on to the same frame."""
        self.expect_words(text)
        expect(self.image).not_to_have_attribute("src", before)
        assert self.image.evaluate("image => image.naturalWidth") > 100
        assert self.lesson.complaints() == []

    def expect_manners(self, sliders: list[str]) -> None:
        """Every slider has a name; the words are heard and not seen; arrows show on black."""
        expect(self.root.get_by_role("slider")).to_have_count(len(sliders))
        for name in sliders:
            expect(self.slider(name)).to_have_count(1)
        expect(self.words).to_have_attribute("aria-live", "polite")
        assert self.words.evaluate("words => words.offsetWidth * words.offsetHeight") <= 1
        for chooser in self.root.locator("select").all():
            arrow = chooser.evaluate("chooser => getComputedStyle(chooser).backgroundImage")
            assert "8a8a8a" in arrow

    def expect_fitting_pictures(self) -> None:
        """A picture shrinks with its place, here and in the cells; in a narrow one it scrolls."""
        page = self.lesson.page
        wide = page.viewport_size
        pictures = [self.image, *page.locator(".jp-RenderedImage img").all()]
        try:
            for width in (900, 800):  # The file browser takes some 300 of them.
                page.set_viewport_size({"width": width, "height": wide["height"]})
                page.wait_for_timeout(500)
                for picture in pictures:
                    own, place, scrolled = picture.evaluate(WIDTHS)
                    assert own == pytest.approx(max(place, NARROWEST), abs=1)
                    assert scrolled == pytest.approx(own, abs=1)
        finally:
            page.set_viewport_size(wide)
