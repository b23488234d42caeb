"""Documents: exactly the answers carry weight, exactly what the assistant says is learned."""

from random import Random

from mistral_edu.training.dialogues import KINDS, about_pieces, dialogue
from mistral_edu.training.documents import Texts, dialogue_document
from mistral_edu.training.facts import RELATIONS, draw_facts
from mistral_edu.training.mentions import NAMING, Mentions
from mistral_edu.training.recall import recall_probe, recall_stream
from mistral_edu.training.world import stories
from tests.training_toys import tokenizer


def test_the_weighted_tokens_of_a_story_are_its_answers():
    texts = Texts(tokenizer(), 5.0)
    for story in stories(4, count=40):
        document = texts.document(story.text)
        assert tokenizer().decode(document.ids) == story.text
        spans = texts.answers(document.ids)
        told = [tokenizer().decode(document.ids[a:b]).strip() for a, b in spans]
        assert told == [question.answer for question in story.questions]
        weighted = sum(weight == 5.0 for weight in document.weights)
        assert weighted == sum(b - a for a, b in spans)


def test_a_word_counts_from_its_second_mention_on():
    texts = Texts(tokenizer(), 1.0, mention_weight=7.0)
    document = texts.document("Zoé the baker met Léon. Léon met Zoé, and the lamp.\nZoé slept.")
    again = [i for i, w in zip(document.ids, document.weights, strict=True) if w == 7.0]
    assert tokenizer().decode(again) == "Léon ZoéZoé"
    assert set(Texts(tokenizer(), 1.0).document("Zoé and Zoé").weights) == {1.0}


def test_every_word_that_names_is_found_in_the_middle_and_at_the_beginning_of_a_line():
    mentions = Mentions(tokenizer())
    for word in NAMING:
        ids = tokenizer().encode(f"the {word} and the {word}, then\n{word} again")
        found = [tokenizer().decode(ids[start:end]).strip() for start, end in mentions.again(ids)]
        assert found == [word, word]


def test_a_piece_of_a_story_ends_where_its_question_can_be_answered():
    for number in range(60):
        told = ""
        for asked, said in about_pieces(Random(number), "train"):
            told += asked
            answer = said.removesuffix(".")
            assert answer.lower() in told.lower() or answer.isdigit()


def test_an_assistant_s_words_and_end_tokens_are_learned_and_nothing_else():
    for number in range(40):
        messages = dialogue(Random(number))
        document = dialogue_document(messages, tokenizer())
        learned = [i for i, w in zip(document.ids, document.weights, strict=True) if w]
        said = [m["content"] for m in messages if m["role"] == "assistant"]
        expected = [i for s in said for i in tokenizer().encode(s, bos=False, eos=True)]
        assert learned == expected
        assert document.ids.count(tokenizer().bos_id) == 1


def test_the_first_instruct_format_is_segment_by_segment():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Yo"},
    ]
    encode = tokenizer().encode
    expected = [
        *encode("[INST] Be brief.\n\nHello [/INST]"),
        *encode("Hi", bos=False, eos=True),
        *encode("[INST] Yo [/INST]", bos=False),
    ]
    assert dialogue_document(messages, tokenizer()).ids == expected


def test_dialogues_alternate_and_end_with_the_assistant():
    for number, kind in enumerate(list(KINDS) * 20):
        messages = dialogue(Random(number), kind=kind)
        roles = [message["role"] for message in messages if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert "system" not in [message["role"] for message in messages[1:]]


def test_a_probe_has_the_distance_it_reports_and_the_one_asked_for():
    texts = Texts(tokenizer(), 1.0)
    for distance in (24, 60, 200, 500):
        for number in range(10):
            probe = recall_probe(Random(number), distance, texts.measure, facts=1, split="test")
            told, _, rest = probe.prompt.partition(".")
            assert abs(texts.measure(rest) - probe.distance) <= probe.distance * 0.1 + 3
            assert distance <= probe.distance < distance + 40
            assert probe.question.answer.lower() in told.lower()


def test_a_stream_asks_every_fact_once_and_within_reach():
    texts = Texts(tokenizer(), 1.0)
    for number in range(20):
        text = recall_stream(Random(number), 300, 120, texts.measure)
        asked = [line for line in text.split("\n") if line.startswith("Question:")]
        assert len(asked) == len(set(asked)) == text.count("Answer:") >= 1
        for block in text.split("\n\nQuestion: ")[1:]:
            answer = block.partition("Answer: ")[2].partition("\n")[0]
            before = text[: text.index(f"Question: {block}")]
            assert answer.lower() in before.lower()


def test_every_relation_asks_what_it_tells():
    for relation in RELATIONS:
        for fact in draw_facts(Random(1), relation, 4):
            key_question = fact.questions[0]
            assert key_question.answer.lower() in fact.sentence.lower()
            assert fact.sentence[0].isupper() or fact.sentence[0].isdigit()
            assert "{" not in fact.sentence + key_question.ask
