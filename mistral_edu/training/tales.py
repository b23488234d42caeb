"""The shapes of text that tell what happened: walk, letter, dialogue, search, storm, visit.

Each shape is a function from a valley to a tale. It changes the valley as it goes and asks only
what the sentences have said. The shapes that count are in `reckonings.py`.
"""

from mistral_edu.training import vocabulary as words
from mistral_edu.training.valley import Question, Tale, Valley, capital, draw_things


def walk(valley: Valley) -> Tale:
    """Two people walk past two places, see something at each, and leave a thing behind."""
    walker, friend = valley.cast[:2]
    thing, (start, first, second) = valley.things[0], valley.places[:3]
    stop = valley.random.choice([first, second])
    leave = " " + valley.put(walker.name, thing, stop.at)
    pause = valley.pick("They stopped to look.", f"{friend.name} laughed.", "It was a fine sight.")
    relation = valley.pick("friend", "cousin", "neighbour")
    paragraphs = (
        f"{valley.opening()} {walker.full} and {walker.his} {relation} {friend.name} "
        f"{valley.pick('set out from', 'left', 'started from')} {start.name} "
        f"{valley.pick(*words.HOURS)}. "
        f"{walker.name} {valley.pick('carried', 'brought')} {thing.a}.",
        f"First they came to {first.name}. There they saw {first.sight}. {pause}"
        f"{leave if stop is first else ''} Then they {valley.pick('went on', 'walked on')} to "
        f"{second.name}. There they saw {second.sight}.{leave if stop is second else ''}",
        f"{valley.sign()} They shared {words.an(valley.foods[0].one)} and talked about "
        f"{valley.pick('the harvest', 'old times', 'the sea', 'the village feast', 'the stars')}. "
        f"{valley.pick('They came home tired and happy.', 'They were home before dark.')}",
    )
    return Tale(
        paragraphs,
        (
            Question(f"Where did {walker.name} leave {thing.the}?", valley.whereabouts[thing.noun]),
            Question(f"Who walked with {walker.name}?", friend.name),
            Question(f"What did they see at {first.name}?", first.sight),
            Question(f"What did they see at {second.name}?", second.sight),
            Question("Where did the walk begin?", start.name),
        ),
    )


def letter(valley: Valley) -> Tale:
    """One person writes to another about a thing that was found and put away."""
    writer, reader, third = valley.cast[:3]
    thing, (home, found, kept) = valley.things[0], valley.places[:3]
    food, number = valley.foods[0], valley.random.randint(2, 9)
    visit = valley.random.choice([day for day in words.DAYS if day != valley.day])
    gift = words.counted(number, food.one, food.many)
    keep = valley.put("I", thing, kept.at)
    together = valley.pick("eat under the stars", "make soup", "walk in the hills", "play cards")
    paragraphs = (
        f"Dear {reader.name},",
        f"I {valley.pick('am writing', 'write')} to you from {home.name}. It is {valley.day}, and "
        f"the weather here is {valley.sky.look}. {capital(valley.season)} is "
        f"{valley.pick('a good season', 'a busy season', 'my favourite season')}. "
        f"{valley.pick('I hope that you are well.', 'I think of you often.', 'How are you?')}",
        f"Yesterday I found {thing.a} {found.at}. "
        f"{valley.pick('I was so surprised!', 'Is it yours?', 'Nobody knew whose it was.')} "
        f"{keep} It will be safe there. {third.full} says hello. "
        f"{capital(third.he)} {valley.pick('has a new dog', 'sings all day', 'learns to dance')}.",
        f"Please come on {visit} and bring {gift}. We will {together} together.",
        f"Your {valley.pick('friend', 'cousin', 'neighbour')}, {writer.name}",
    )
    return Tale(
        paragraphs,
        (
            Question("Who wrote the letter?", writer.name),
            Question(f"Where is {thing.the} now?", kept.at),
            Question(f"Where was {thing.the} found?", found.at),
            Question(f"On which day should {reader.name} come?", visit),
            Question(f"What should {reader.name} bring?", gift),
        ),
    )


def dialogue(valley: Valley) -> Tale:
    """Two people talk about a thing that a third has moved; the first goes and finds it."""
    seeker, witness, mover = valley.cast[:3]
    thing, (meeting, before, after) = valley.things[0], valley.places[:3]
    move = valley.put(
        f"{mover.name} took it {valley.pick('later', 'at noon')} and", thing, after.at, called="it"
    )
    paragraphs = (
        f"{valley.opening()} {seeker.full} met {witness.full} {meeting.at}.",
        f"“{valley.pick('Bonjour', 'Hello', 'Good day')}, {witness.name},” said {seeker.name}. "
        f"“Have you seen my {thing.noun}?”",
        f"“What does it look like?” asked {witness.name}.",
        f"“It is {thing.look}. {valley.pick('I need it', 'I must have it', 'I want it')} for "
        f"{valley.pick('the feast', 'my work', 'the school', 'my mother', 'tonight')}.”",
        f"“Ah, {thing.the}! I saw it {before.at}, but {valley.sky.reason}. {move}”",
        f"“{valley.pick('Thank you', 'You are very kind', 'What luck')}!” said {seeker.name}. "
        f"“I will go to {after.name} {valley.pick('at once', 'right away', 'now')}.”",
        f"“Take {words.an(valley.foods[0].one)} with you,” said {witness.name}. "
        f"“It is {valley.pick('a long way', 'not far', 'for the road')}.”",
        f"{seeker.name} went to {after.name}, and the {thing.noun} was there. {capital(seeker.he)} "
        f"{valley.pick('smiled', 'jumped for joy', 'sang a song', 'thanked the sky')}.",
    )
    return Tale(
        paragraphs,
        (
            Question(f"Who moved the {thing.noun}?", mover.name),
            Question(f"Where did {seeker.name} find the {thing.noun}?", after.at),
            Question(f"Where did {witness.name} see the {thing.noun} first?", before.at),
            Question(f"What did the {thing.noun} look like?", thing.look),
            Question(f"Whose {thing.noun} was it?", seeker.name),
        ),
    )


def search(valley: Valley) -> Tale:
    """A thing is lost, two people look in three places, and one of them finds it in the last."""
    owner, helper = valley.cast[:2]
    thing, places, reward = valley.things[0], valley.places[:3], valley.foods[0].one
    finder = valley.random.choice([owner, helper])
    first, second = valley.random.sample([owner, helper], 2)
    found = f"{finder.name} saw something {thing.look}. It was the {thing.noun}, {places[2].at}!"
    end = (
        f"{finder.name} gave it to {owner.name}, and {owner.name} gave {finder.name} "
        f"{words.an(reward)}."
        if finder is helper
        else f"{owner.name} was so glad that {owner.he} gave {helper.name} {words.an(reward)}."
    )
    paragraphs = (
        f"{valley.opening()} {owner.full} {valley.pick('had lost', 'could not find')} {thing.a}. "
        f"“I will help you,” said {helper.full}.",
        f"First {first.name} looked {places[0].at}. There was only {places[0].sight}. "
        f"Then {second.name} looked {places[1].at}. There was only {places[1].sight}. "
        f"{valley.pick('No luck.', 'They were sad.', 'It was getting late.')}",
        f"{valley.pick('At last', 'In the end')} they came to {places[2].name}. "
        f"{valley.sign()} {found} {end}",
        f"{valley.take(owner, thing)} {capital(owner.he)} "
        f"{valley.pick('never lost it again', 'tied it to a string', 'kept it close')}.",
    )
    return Tale(
        paragraphs,
        (
            Question(f"Where was {thing.the}?", places[2].at),
            Question(f"Who found {thing.the}?", finder.name),
            Question(f"Who had lost {thing.the}?", owner.name),
            Question(f"Who looked {places[0].at}?", first.name),
            Question(f"What did {owner.name} give {helper.name}?", words.an(reward)),
        ),
    )


def storm(valley: Valley) -> Tale:
    """The mistral carries two light things away, and somebody brings one of them back."""
    valley.sky = next(sky for sky in words.SKIES if sky.look == "windy")
    loser, other = valley.cast[:2]
    one, two = draw_things(valley.random, words.LIGHT_NOUNS, 2)
    start, *landings = valley.places[:3]
    drops = [
        valley.put(f"it took {thing.the} and", thing, place.at, "dropped", called="it")
        for thing, place in zip((one, two), landings, strict=True)
    ]
    back = [
        valley.take(other, one),
        valley.put(other.he, one, start.at),
    ]
    paragraphs = (
        f"{valley.opening()} {loser.full} had {one.a} and {two.a} {start.at}.",
        f"{capital(valley.pick(*words.HOURS))} the mistral came down from the "
        f"{valley.pick('north', 'mountain', 'high hills')}. {drops[0]} "
        f"{valley.pick('Then it came back', 'It was not tired', 'A minute later it blew again')}. "
        f"{drops[1]} {valley.sign()}",
        f"“{valley.pick('Bad wind', 'Silly wind', 'Wild wind')}!” cried {loser.name}. "
        f"{other.full} heard {loser.him} and {valley.pick('ran', 'walked', 'hurried')} to "
        f"{landings[0].name}. {back[0]} Then {other.he} came back. {back[1]}",
        f"{capital(two.the)} {valley.pick('stayed', 'was still')} {landings[1].at}. "
        f"{valley.pick('Nobody wanted to go there', 'It was too late to look')}. {valley.sign()}",
    )
    return Tale(
        paragraphs,
        (
            Question(f"Where is {one.the} now?", start.at),
            Question(f"Where is {two.the} now?", landings[1].at),
            Question(f"Where did the mistral drop {one.the}?", landings[0].at),
            Question(f"Who brought {one.the} back?", other.name),
            Question(f"Whose {two.noun} did the wind take?", loser.name),
        ),
    )


def visit(valley: Valley) -> Tale:
    """A room with four things in it; a visitor moves one and takes another home."""
    host, guest = valley.cast[:2]
    *spots, free = valley.random.sample(words.ROOM, 5)
    layout = list(zip(valley.things, spots, strict=True))
    seen = [capital(f"{at} there was {thing.a}.") for thing, at in layout]
    valley.whereabouts |= {thing.noun: at for thing, at in layout}
    moved, gift = valley.random.sample(valley.things, 2)
    was = valley.whereabouts[moved.noun]
    move = valley.put(guest.name, moved, free)
    give = valley.take(guest, gift)
    paragraphs = (
        f"{valley.opening()} {guest.full} {valley.pick('went to see', 'visited')} {host.full}. "
        f"The house stood {valley.pick('near', 'not far from', 'behind')} {valley.places[0].name}.",
        f"{guest.name} looked around the room. {' '.join(seen)}",
        f"“{valley.pick('What a fine room', 'How nice it is here')}!” said {guest.name}. "
        f"They {valley.pick('ate', 'shared')} {words.an(valley.foods[0].one)} and drank "
        f"{valley.pick('tea', 'milk', 'grape juice', 'coffee')}. {move}",
        f"“Take {gift.the} home,” said {host.name}. “It is {valley.pick('yours', 'a present')}.” "
        f"{give} {capital(guest.he)} {valley.pick('hugged', 'thanked')} {host.name} and left.",
    )
    kept = valley.random.choice([one for one in valley.things if one not in (moved, gift)])
    return Tale(
        paragraphs,
        (
            Question(f"Where is {moved.the} now?", free),
            Question(f"Where was {moved.the} at first?", was),
            Question(f"Where is {kept.the}?", valley.whereabouts[kept.noun]),
            Question(f"What did {guest.name} take home?", gift.the),
            Question("Whose house was it?", host.name),
        ),
    )
