/* demo_grammar.h - the rules behind demo.c: a grammar of short stories.
 *
 * A rule has a name and alternatives; those that come first are drawn more often, see demo_weight. In a text,
 *
 *   [rule]        draws an alternative of that rule and writes it; the draw is remembered
 *   {rule}        writes the remembered alternative again, for which nothing is drawn
 *   [Rule] {Rule} the same, with a capital
 *
 * An alternative may have several forms, separated by `|` and named in the rule's second string: after
 * [hero.intro] wrote "girl named Lily", {hero.name} writes "Lily" and {hero.he} "she". A form is a text like
 * any other and may draw in its turn, so what comes later may follow from what was drawn.
 *
 * Three promises keep every document's probability exact. test/unit/test_demo.c proves them for these tables:
 *   - no expansion of an alternative begins with an expansion of another alternative of the same rule, so a
 *     document has one derivation, and reading it from left to right finds it;
 *   - a rule that is recalled is drawn once on every path to the recall, so it then has its own distribution;
 *   - no rule contains itself. */
#ifndef GPT_DEMO_GRAMMAR_H
#define GPT_DEMO_GRAMMAR_H

#include <stdint.h>

typedef struct DemoRule {
    const char *name;
    const char *forms;            /* names of the forms, separated by spaces; "" if there is but one */
    const char *alternatives[40]; /* ends with NULL */
} DemoRule;

/* The weight of alternative k, from 0: falls slowly, so that a list of thirty words has them all in use. */
static inline uint32_t demo_weight(int k) {
    return 65536u / (uint32_t)(k + 4);
}

/* clang-format off */
static const DemoRule demo_rules[] = {

/* ---- words --------------------------------------------------------------------------------------------- */

{"hero", "intro name he him his child", {
    "girl named Lily|Lily|she|her|her|girl", "boy named Tom|Tom|he|him|his|boy",
    "girl named Mia|Mia|she|her|her|girl", "boy named Ben|Ben|he|him|his|boy",
    "girl named Rosa|Rosa|she|her|her|girl", "boy named Max|Max|he|him|his|boy",
    "girl named Nora|Nora|she|her|her|girl", "boy named Finn|Finn|he|him|his|boy",
    "girl named Clara|Clara|she|her|her|girl", "boy named Leo|Leo|he|him|his|boy",
    "girl named Ivy|Ivy|she|her|her|girl", "boy named Sam|Sam|he|him|his|boy",
}},
{"friend", "", { /* an animal that talks, and stays in the story */
    "fox", "rabbit", "mouse", "bear", "duck", "hedgehog", "frog", "goat", "squirrel", "crow",
}},
{"animal", "", { /* any other */
    "cat", "dog", "hen", "donkey", "sparrow", "pig", "horse", "lamb", "badger", "robin", "snail", "toad",
    "swan", "cow", "goose", "turtle", "mole", "pony",
}},
{"beast", "", {
    "wolf", "dragon", "lion", "giant", "witch", "bull", "tiger", "snake", "troll", "ghost",
}},
{"elder", "", { /* of the hero's family, and stays in the story */
    "mother", "grandmother", "father", "grandfather", "sister", "brother", "aunt", "uncle",
}},
{"person", "", { /* any other */
    "baker", "farmer", "king", "sailor", "miller", "queen", "tailor", "teacher", "shepherd", "doctor",
    "painter", "gardener", "fisherman", "soldier", "princess", "wizard", "traveler", "clown", "neighbor",
    "judge",
}},
{"trait", "", { /* of people and animals */
    "little", "kind", "brave", "clever", "shy", "cheerful", "curious", "lonely", "gentle", "merry", "proud",
    "young", "sleepy", "hungry", "polite", "stubborn", "wise", "lazy", "quiet", "friendly", "grumpy",
    "tired", "patient", "busy", "lively", "nervous", "happy", "poor", "tall", "thin",
}},
{"grim", "", { /* of beasts */
    "fierce", "wild", "huge", "cruel", "hairy", "noisy", "mean", "greedy", "terrible", "hungry",
}},
{"thing", "", { /* the one that the story is about */
    "bell", "box", "key", "lamp", "coin", "hat", "kite", "drum", "map", "ring", "book", "doll",
}},
{"object", "", { /* any other */
    "rope", "spoon", "mirror", "ribbon", "whistle", "feather", "button", "clock", "lantern", "stone",
    "letter", "brush", "candle", "shell", "blanket", "ladder", "wheel", "picture", "hammer", "broom",
    "needle", "stick",
}},
{"holder", "", { /* things lie in it */
    "basket", "pot", "bag", "bottle", "shoe", "boat", "drawer", "bucket", "cart", "sack",
}},
{"look", "", { /* of things */
    "small", "red", "blue", "golden", "silver", "white", "green", "black", "gray", "big", "tiny", "wooden",
    "pretty", "strange", "lovely", "dusty", "yellow", "brown", "painted", "broken", "round", "crooked",
    "simple", "striped", "magic", "plain", "shiny", "heavy", "dirty", "precious",
}},
{"place", "", {
    "mill", "river", "forest", "market", "hill", "lake", "bridge", "church", "school", "castle", "garden",
    "meadow", "harbor", "well", "barn", "tower", "village", "farm", "orchard", "pond", "gate", "road",
    "cave", "valley", "shore", "field", "waterfall", "mountain",
}},
{"scene", "", { /* of places */
    "quiet", "small", "green", "dark", "famous", "lonely", "windy", "pretty", "secret", "strange", "sunny",
    "big", "forgotten", "misty", "lovely", "gray", "hidden", "distant", "silent", "grand",
}},
{"near", "", {
    "near", "behind", "beside", "beyond", "not far from", "close to", "across from", "just outside",
}},
{"food", "", {
    "bread", "cheese", "honey", "soup", "cake", "milk", "butter", "jam", "rice", "tea", "toast", "pie",
}},
{"fruit", "", {
    "apples", "pears", "nuts", "plums", "berries", "carrots", "cookies", "eggs", "beans", "cherries",
    "pancakes", "potatoes", "grapes", "peas",
}},
{"hobby", "", {
    "singing", "reading", "dancing", "fishing", "drawing", "swimming", "running", "climbing", "skating",
    "riding", "dreaming", "whistling",
}},
{"craft", "", {
    "cooking", "baking", "sewing", "digging", "painting", "knitting", "sailing", "counting", "weaving",
    "carving", "cleaning", "writing",
}},
{"softly", "", { /* how one speaks */
    "softly", "quietly", "loudly", "kindly", "gently", "calmly", "proudly", "shyly", "politely", "warmly",
    "gravely", "boldly", "sweetly", "firmly",
}},
{"slowly", "", { /* how one acts */
    "slowly", "quickly", "gladly", "bravely", "happily", "carefully", "patiently", "sleepily", "silently",
    "eagerly", "secretly", "neatly",
}},
{"sad", "", {
    "sad", "worried", "angry", "sorry", "upset", "afraid", "ashamed", "unhappy", "cold", "bored",
}},
{"glad", "", {
    "glad", "happy", "proud", "delighted", "excited", "surprised", "pleased", "grateful", "amazed",
    "cheerful",
}},
{"number", "", {
    "two", "three", "four", "five", "six", "seven", "ten", "twelve",
}},
{"span", "", {
    "minutes", "hours", "days", "weeks",
}},
{"one_day", "", {
    "One [weather] [daytime]",
}},
{"weather", "", {
    "bright", "sunny", "windy", "rainy", "foggy", "snowy", "warm", "stormy", "cloudy", "frosty", "fine",
    "dark",
}},
{"daytime", "", {
    "morning", "day", "afternoon", "evening", "night",
}},
{"virtue", "", {
    "kindness", "courage", "patience", "honesty", "love", "friendship", "hope", "laughter", "trust", "truth",
}},
{"better", "", {
    "better", "stronger", "brighter", "sweeter", "older", "greater", "richer", "warmer",
}},
{"riches", "", {
    "gold", "fear", "anger", "pride", "strength", "luck", "winter", "beauty", "sorrow", "magic",
}},

/* ---- every story --------------------------------------------------------------------------------------- */

{"story", "", {
    "[opening] [habit] [lost] [moral]",
    "[opening] [habit] [rescue] [moral]",
    "[opening] [habit] [journey] [moral]",
    "[opening] [habit] [quarrel] [moral]",
    "[opening] [habit] [errand] [moral]",
    "[opening] [habit] [present] [moral]",
}},
{"opening", "", {
    "Once upon a time a [trait] [hero.intro] lived [near] the [scene] [place].",
    "[hero.name] was a [trait] {hero.child} who lived [near] the [scene] [place].",
    "Long ago, [near] the [scene] [place], there lived a [trait] [hero.intro].",
    "There once was a [trait] [hero.intro] who lived with a [trait] [animal] [near] the [place].",
}},
{"habit", "", {
    "{hero.He} loved [hobby], [craft], [food] and [fruit].",
    "{hero.name} was always [hobby] or [craft] [near] the [place] with a [trait] [animal].",
    "In {hero.his} pocket {hero.he} kept a [look] [object], a [look] [object] and [number] [fruit].",
    "Everyone said that {hero.he} was as [trait] as a [animal] and as [trait] as a [person].",
}},
{"moral", "", {
    "And so {hero.name} learned that [virtue] is [better] than [riches].",
    "That [daytime] {hero.he} ate [food] with [fruit] and dreamed of a [scene] [place].",
    "From then on {hero.he} was never [sad] again, and often thought of the [trait] [animal].",
    "\"Remember that [virtue] is [better] than [riches],\" said a [trait] [person] [softly].",
}},

/* ---- something is lost --------------------------------------------------------------------------------- */

{"lost", "", {
    "[owning] [losing] [asking] [telling] [finding] [thanking]",
}},
{"owning", "", {
    "{hero.He} had a [look] [thing], a present from a [trait] [person] [near] the [place].",
    "A [trait] [person] had given {hero.him} a [look] [thing].",
    "{hero.His} treasures were a [look] [object] and a [look] [thing].",
}},
{"losing", "", {
    "[one_day] {hero.he} lost it [near] the [scene] [place], because [lost_because].",
    "[one_day] {hero.he} was [hobby], and then it was gone, because [lost_because].",
}},
{"lost_because", "", {
    "a [trait] [animal] ran away with it",
    "the wind blew it over the [scene] [place]",
    "{hero.he} was thinking of [food] and [fruit]",
    "there was a hole in {hero.his} [look] [holder]",
    "{hero.he} had been [hobby] all [daytime]",
}},
{"asking", "", {
    "\"Why are you so [sad]?\" asked a [trait] [friend] [softly].",
    "A [trait] [friend] with a [look] [object] saw that {hero.he} was [sad].",
    "{hero.He} began to cry, and a [trait] [friend] heard {hero.him} [near] the [place].",
}},
{"telling", "", {
    "\"I lost my {thing} [near] the [place],\" said {hero.name} [softly].",
    "\"My {thing} is gone, and I feel [sad],\" said {hero.name}.",
}},
{"finding", "", {
    "They looked [near] the [place], and between a [look] [object] and a [look] [object] lay the {thing}.",
    "\"I saw it [near] the [place],\" said the {friend}, and there it was, under a [look] [object].",
    "After [number] [span] the {friend} found it in a [look] [holder] full of [fruit].",
}},
{"thanking", "", {
    "{hero.name} gave the {friend} some [food], [number] [fruit] and a [look] [object].",
    "\"Thank you,\" said {hero.name} [softly]. \"Let us share my [food] and my [fruit].\"",
}},

/* ---- someone is in trouble ----------------------------------------------------------------------------- */

{"rescue", "", {
    "[hearing] [plea] [freeing] [thanks] [repaying]",
}},
{"hearing", "", {
    "[one_day] {hero.he} found a [trait] [friend] in a [trap] [near] the [scene] [place].",
    "[one_day] {hero.he} heard a voice. It was a [trait] [friend] in a [dark] [trap].",
}},
{"dark", "", {
    "dark", "deep", "muddy", "narrow", "dirty", "cold", "wet", "dusty",
}},
{"trap", "", {
    "net", "ditch", "hole", "cage", "bush", "trunk", "barrel", "chimney",
}},
{"plea", "", {
    "\"Please help me,\" said the {friend} [softly]. \"[plight].\"",
    "\"Help!\" cried the {friend}. \"[plight].\"",
}},
{"plight", "", {
    "I was [hobby] and did not look",
    "A [grim] [beast] left me here",
    "I have been [sad] here for [number] [span]",
    "I only wanted the [fruit] of a [trait] [person]",
}},
{"freeing", "", {
    "{hero.name} took a [look] [object] and a [look] [object], and [slowly] the {friend} got out.",
    "With a [look] [object] and some [food] {hero.name} freed the {friend} [slowly].",
}},
{"thanks", "", {
    "\"Thank you,\" said the {friend} [softly]. \"Take this [look] [thing].\"",
    "\"You are so [trait],\" said the {friend} [softly] and gave {hero.him} a [look] [thing].",
}},
{"repaying", "", {
    "After [number] [span] a [trait] [person] gave {hero.him} [number] [fruit] for the {thing}.",
    "The {thing} was so [look] that a [trait] [person] and a [trait] [animal] wanted to see it.",
    "And whenever {hero.name} felt [sad], the {friend} came with [food] and [fruit].",
}},

/* ---- someone goes far away ----------------------------------------------------------------------------- */

{"journey", "", {
    "[wish] [leaving] [meeting] [walking] [arriving]",
}},
{"wish", "", {
    "{hero.name} wanted to see the [scene] [place], because a [trait] [person] had told {hero.him} about it.",
    "In a [look] book {hero.he} had read of a [scene] [place] with [number] doors.",
}},
{"leaving", "", {
    "[one_day] {hero.he} packed a [look] [object], some [food] and [number] [fruit], and left [slowly].",
    "[one_day] {hero.he} said goodbye to {hero.his} [elder], took some [food], and left [slowly].",
}},
{"meeting", "", {
    "On the way {hero.he} met a [trait] [friend], who was [hobby] [near] the [place].",
    "A [trait] [friend] was [craft] [near] the [scene] [place].",
}},
{"walking", "", {
    "\"Come with me,\" said {hero.name} [softly], and they walked for [number] [span].",
    "\"Are you [sad]?\" asked the {friend}. \"No, but I am [trait],\" said {hero.name}.",
    "They shared some [fruit], and the {friend} told {hero.him} about [hobby] and [craft].",
}},
{"arriving", "", {
    "At last they were there, and a [trait] [person] gave them [food] and [fruit].",
    "When they arrived, the {friend} was [glad], and {hero.name} danced [slowly] with a [trait] [animal].",
    "After [number] [span] {hero.he} came home with a [look] [thing] for a [trait] [animal].",
}},

/* ---- two want the same --------------------------------------------------------------------------------- */

{"quarrel", "", {
    "[find] [mine] [tugging] [judging] [peace]",
}},
{"find", "", {
    "[one_day] {hero.he} and a [trait] [friend] found a [look] [thing] [near] the [place].",
    "[one_day] a [trait] [person] gave {hero.him} and a [trait] [friend] a [look] [thing].",
}},
{"mine", "", {
    "\"It is mine,\" said {hero.name} [softly]. \"I need it for [hobby].\"",
    "\"I want the {thing} for [craft],\" said the {friend} [softly].",
    "Both wanted the {thing} for [hobby] and [craft], because it was so [look].",
}},
{"tugging", "", {
    "They pulled, until the {thing} fell into a [look] [holder].",
    "They did not speak for [number] [span], and both were [sad].",
    "The {friend} was [sad] and ran to the [scene] [place].",
}},
{"judging", "", {
    "\"Why are you so [sad]?\" asked a [trait] [person] [softly].",
    "A [trait] [person] came by with a [look] [object] and laughed [softly].",
    "{hero.name} told a [trait] [person] [near] the [place], who was [sad].",
}},
{"peace", "", {
    "Then {hero.name} gave the {friend} the {thing} for [number] [fruit] and a [look] [object].",
    "So they gave the {thing} to a [trait] [animal] and went [hobby].",
    "\"I am sorry,\" said the {friend} [softly], and they shared the {thing} and some [food].",
}},

/* ---- someone is afraid --------------------------------------------------------------------------------- */

{"errand", "", {
    "[fearing] [illness] [going] [scare] [courage] [returning]",
}},
{"fearing", "", {
    "But {hero.he} was afraid of the [scene] [place], because a [grim] [beast] lived there.",
    "But {hero.he} was afraid of every [beast], every [animal] and every [dark] [trap].",
}},
{"illness", "", {
    "[one_day] {hero.his} [elder] was ill and needed [food] from the [scene] [place].",
    "[one_day] {hero.his} [elder] was [sad] and wanted [food] with [number] [fruit].",
}},
{"going", "", {
    "So {hero.he} took a [look] [object] and went [slowly] to the [place].",
    "\"I will go,\" said {hero.name} [softly] and took a [look] [object].",
}},
{"scare", "", {
    "There, [near] the [place], stood a [grim] [beast] with a [look] [object].",
    "Suddenly a [grim] [beast] jumped out of a [dark] [trap].",
}},
{"courage", "", {
    "{hero.name} thought of [food] and [fruit] and walked on [slowly].",
    "{hero.name} was [sad], but {hero.he} went on [hobby] and [craft].",
    "\"Good [daytime],\" said {hero.name} [softly]. \"Do you like [fruit]?\"",
}},
{"returning", "", {
    "When {hero.he} came home, {hero.his} {elder} was [glad] and kissed {hero.him} [slowly].",
    "After [number] [span] {hero.he} was back with a [look] [object], and {hero.his} {elder} ate [slowly].",
}},

/* ---- a present goes wrong ------------------------------------------------------------------------------ */

{"present", "", {
    "[birthday] [planning] [mishap] [idea] [making] [giving]",
}},
{"birthday", "", {
    "[one_day] it was the birthday of {hero.his} [elder], and {hero.he} was [glad].",
    "[one_day] {hero.he} wanted to make a present for {hero.his} [elder].",
}},
{"planning", "", {
    "{hero.name} baked a [look] cake with [food] and [number] [fruit].",
    "{hero.name} cooked [fruit] with [food] in a [look] pot.",
}},
{"mishap", "", {
    "But a [trait] [animal] ate it [slowly] [near] the [place].",
    "But it turned [look], because {hero.he} had been [hobby].",
    "But {hero.he} had used [food] for [food], and it was [look].",
}},
{"idea", "", {
    "\"Do not be [sad],\" said a [trait] [friend]. \"I like [craft].\"",
    "Then a [trait] [friend] came by with a [look] [object] and [number] [fruit].",
    "\"I have a [look] [object],\" said a [trait] [friend] [softly].",
}},
{"making", "", {
    "Together they painted a [look] [thing] for [number] [span].",
    "The {friend} found a [look] [thing] [near] the [place].",
    "They filled a [look] [thing] with [food] and [number] [fruit].",
}},
{"giving", "", {
    "\"What a [look] {thing}!\" cried {hero.his} {elder} [softly].",
    "{hero.His} {elder} was [glad] and gave the {friend} a [look] [object].",
    "{hero.His} {elder} took the {thing} and went [hobby] with a [trait] [animal].",
}},
};
/* clang-format on */

#endif
