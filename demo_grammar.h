/* demo_grammar.h - the rules behind demo.c: a grammar of short stories.
 *
 * A rule has a name and alternatives; alternative k of a rule (from 0) is drawn with a weight of 1 / (k + 2), so
 * put the common ones first. In a text,
 *
 *   [rule]        draws an alternative of that rule and writes it; the draw is remembered
 *   {rule}        writes the remembered alternative again, for which nothing is drawn
 *   [Rule] {Rule} the same, with a capital
 *
 * An alternative may have several forms, separated by `|` and named by the rule's second line: after
 * [hero.intro] wrote "girl named Lily", {hero.name} writes "Lily" and {hero.he} "she". A form is a text like any
 * other, so what comes later may follow from what was drawn: {thing.fate} draws from [blown] for a kite.
 *
 * Three promises keep every document's probability exact. test/unit/test_demo.c proves them for these tables:
 *   - no expansion of an alternative begins with an expansion of another alternative of the same rule, so a
 *     document has one derivation, and reading it from left to right finds it;
 *   - a rule that is recalled is drawn once on every path to the recall, so it then has its own distribution;
 *   - no rule contains itself. */
#ifndef GPT_DEMO_GRAMMAR_H
#define GPT_DEMO_GRAMMAR_H

#include <stddef.h>

typedef struct DemoRule {
    const char *name;
    const char *forms;              /* names of the forms, separated by spaces; "" if there is but one */
    const char *alternatives[40]; /* ends with NULL */
} DemoRule;

/* clang-format off */
static const DemoRule demo_rules[] = {

/* ---- the plots ------------------------------------------------------------------------------------------- */

{"story", "", {
    "[opening] [habit] [lost]",
    "[opening] [habit] [rescue]",
    "[opening] [habit] [fright]",
    "[opening] [habit] [gift]",
    "[opening] [habit] [seedling]",
    "[opening] [habit] [journey]",
    "[opening] [habit] [quarrel]",
}},
{"lost", "", {
    "[owning] [losing] [upset] [meeting] \"[asking]\" {friend.he} asked. [telling] [offer] [search] [finding] [thanks] [lesson_help]",
}},
{"rescue", "", {
    "[hearing] [trapped] \"[plea],\" {friend.he} [begged]. \"{trap.why}.\" [freeing] [praise] [repaying] [lesson_help]",
}},
{"fright", "", {
    "[fearing] [errand] [setting_out] [scare] [courage] [returning] \"[bravest],\" said {elder}. [lesson_brave]",
}},
{"gift", "", {
    "[birthday] [planning] [cooking] [mishap] [dismay] [visitor] [repair] [party] [lesson_heart]",
}},
{"seedling", "", {
    "[seed_given] [planting] [waiting] \"[impatience]\" {hero.he} asked. \"[patience],\" said {elder}. [weathering] [sprout] [harvest] [lesson_patience]",
}},
{"journey", "", {
    "[wondering] [departure] [crossing] [encounter] [going_on] [arrival] [marvel] [homecoming] [lesson_world]",
}},
{"quarrel", "", {
    "[friendship] [discovery] \"[mine],\" [cried] {hero.name}. \"[no_mine],\" [cried] {friend}. [tugging] [silence] [regret] [sorry] [mending] [lesson_share]",
}},

/* ---- who, where, when ------------------------------------------------------------------------------------ */

{"hero", "intro name he him his child", {
    "girl named Lily|Lily|she|her|her|girl",
    "boy named Tom|Tom|he|him|his|boy",
    "girl named Mia|Mia|she|her|her|girl",
    "boy named Ben|Ben|he|him|his|boy",
    "boy named Max|Max|he|him|his|boy",
    "girl named Rosa|Rosa|she|her|her|girl",
    "boy named Finn|Finn|he|him|his|boy",
    "girl named Clara|Clara|she|her|her|girl",
    "girl named Nora|Nora|she|her|her|girl",
    "boy named Leo|Leo|he|him|his|boy",
    "girl named Ivy|Ivy|she|her|her|girl",
    "boy named Hugo|Hugo|he|him|his|boy",
    "boy named Sam|Sam|he|him|his|boy",
    "girl named Ruby|Ruby|she|her|her|girl",
    "boy named Oscar|Oscar|he|him|his|boy",
    "girl named Zoe|Zoe|she|her|her|girl",
}},
{"friend", "name intro he him his", {
    "Pip|a rabbit named Pip|he|him|his",
    "Bella|a duck named Bella|she|her|her",
    "Rusty|a fox named Rusty|he|him|his",
    "Hazel|a squirrel named Hazel|she|her|her",
    "Bruno|a bear named Bruno|he|him|his",
    "Dot|a mouse named Dot|she|her|her",
    "Olive|an owl named Olive|she|her|her",
    "Spike|a hedgehog named Spike|he|him|his",
    "Coco|a goat named Coco|she|her|her",
    "Gus|a goose named Gus|he|him|his",
}},
{"elder", "name he", {
    "{hero.his} grandmother|she",
    "{hero.his} grandfather|he",
    "{hero.his} mother|she",
    "{hero.his} father|he",
    "{hero.his} aunt|she",
    "{hero.his} uncle|he",
    "the old baker|he",
    "{hero.his} teacher|she",
}},
{"trait", "", {
    "a little", "a kind", "a brave", "a curious", "a cheerful", "a clever", "a shy", "a quiet", "a young",
    "a gentle", "a merry", "a stubborn", "an honest", "a lively", "a bold", "a dreamy", "a patient", "a poor",
}},
{"home", "", {
    "[dwelling] [nearby]",
}},
{"dwelling", "", {
    "in a small house", "in a village", "in a wooden hut", "on a farm", "in a cottage", "in a stone tower",
    "in an old mill", "in a little town", "on a boat", "in a castle",
}},
{"nearby", "", {
    "by the sea", "near the forest", "on a green hill", "beside a river", "at the foot of a mountain",
    "in a deep valley", "far to the north", "between two lakes", "under tall trees", "close to a waterfall",
    "behind the market", "at the end of a long road",
}},
{"one_day", "", {
    "One [weather] [daytime]",
}},
{"weather", "", {
    "bright", "cold", "windy", "rainy", "sunny", "warm", "foggy", "quiet", "golden", "snowy", "gray", "stormy",
}},
{"daytime", "", {
    "morning", "day", "afternoon", "evening",
}},
{"place", "", {
    "the market", "the river", "the forest", "school", "the beach", "the old bridge", "the meadow", "the pond",
    "the park", "the harbor", "the church", "the orchard", "the hill", "the well",
}},
{"thing", "name fate", {
    "kite|[blown]", "ball|[rolled]", "hat|[blown]", "ring|[dropped]", "drum|[rolled]", "book|[dropped]",
    "scarf|[blown]", "whistle|[taken]", "coin|[rolled]", "flute|[dropped]", "ribbon|[taken]", "lantern|[dropped]",
    "key|[taken]", "map|[blown]", "bell|[rolled]", "button|[taken]", "umbrella|[blown]", "spoon|[taken]",
}},
{"color", "", {
    "a red", "a blue", "a silver", "a yellow", "a green", "a tiny", "a golden", "a painted", "a white", "a striped",
    "an orange", "a purple", "a wonderful", "an odd",
}},

/* ---- how stories begin ----------------------------------------------------------------------------------- */

{"opening", "", {
    "Once upon a time there was [trait] [hero.intro] who lived [home].",
    "[hero.name] was [trait] {hero.child} who lived [home].",
    "Long ago, [home], there lived [trait] [hero.intro].",
    "There once lived [trait] [hero.intro] [home].",
    "In the days when [olden], [trait] [hero.intro] lived [home].",
}},
{"olden", "", {
    "animals could talk", "wishes still came true", "ships had sails", "giants walked the earth",
    "the moon was young", "people told the time by the sun", "winters were long",
}},
{"habit", "", {
    "{hero.He} loved [hobby].",
    "{hero.name} liked [hobby] more than anything else.",
    "Every [daytime] {hero.he} went to [place] to [task].",
    "Most of all {hero.he} loved [hobby], even when [though].",
    "People said that {hero.he} was [praised], and they were right.",
}},
{"hobby", "", {
    "singing", "drawing birds", "climbing trees", "telling stories", "counting stars", "collecting shells",
    "reading", "baking bread", "playing in the rain", "watching clouds", "catching frogs", "building boats",
    "looking at maps", "dancing", "feeding the hens", "asking questions",
}},
{"task", "", {
    "play", "fetch water", "feed the birds", "sell eggs", "gather wood", "pick flowers", "fish", "think",
    "listen to the wind", "visit a friend",
}},
{"though", "", {
    "it was late", "nobody was watching", "there was work to do", "it rained", "{hero.he} was tired",
    "others laughed", "the days were short",
}},
{"praised", "", {
    "as busy as a bee", "the best singer in the land", "always ready to help", "a dreamer", "never in a hurry",
    "too young to be so wise", "full of good ideas",
}},

/* ---- something is lost ----------------------------------------------------------------------------------- */

{"owning", "", {
    "{hero.He} had [color] [thing] that [elder] had given {hero.him}.",
    "{hero.His} dearest treasure was [color] [thing], a present from [elder].",
    "For {hero.his} birthday [elder] had made {hero.him} [color] [thing].",
    "[Elder] had once found [color] [thing] and given it to {hero.him}.",
}},
{"losing", "", {
    "[one_day] {hero.he} took it to [place], but {thing.fate}.",
    "[one_day], on the way to [place], {thing.fate}.",
    "[one_day], while {hero.he} was [hobby], {thing.fate}.",
}},
{"blown", "", {
    "the wind pulled it out of {hero.his} hands", "a sudden gust carried it over the trees",
    "a storm blew it across the river", "the wind lifted it higher than the rooftops",
    "the wind was so strong that it flew away",
}},
{"rolled", "", {
    "it rolled down the hill and out of sight", "it bounced into the tall grass", "it rolled under a fence",
    "it slipped through a crack in the wall", "it fell and rolled into a ditch",
}},
{"dropped", "", {
    "{hero.he} left it on a bench", "it fell out of {hero.his} pocket", "{hero.he} put it down to pick flowers",
    "it dropped through a hole in {hero.his} bag", "{hero.he} forgot it under a tree",
}},
{"taken", "", {
    "a magpie carried it off", "a puppy ran away with it", "a cheeky monkey took it", "a squirrel hid it",
    "a crow snatched it because it was shiny",
}},
{"upset", "", {
    "{hero.name} sat down and cried.",
    "{hero.He} looked [everywhere], but the {thing} was gone.",
    "{hero.name} was so [sad] that {hero.he} could not [eat].",
    "\"My {thing}!\" cried {hero.name}. \"It is gone!\"",
}},
{"everywhere", "", {
    "everywhere", "high and low", "until it was dark", "in every corner", "behind every bush", "for a whole hour",
}},
{"sad", "", {
    "sad", "unhappy", "sorry", "worried", "miserable", "upset",
}},
{"eat", "", {
    "eat", "speak", "sleep", "play", "smile",
}},
{"meeting", "", {
    "Just then [friend.intro] came by.",
    "After a while {hero.he} met [friend.intro].",
    "[Friend.intro] heard {hero.him} and stopped.",
    "Soon [friend.intro] came [moving] along.",
    "By the road sat [friend.intro].",
}},
{"moving", "", {
    "running", "hopping", "marching", "strolling", "hurrying",
}},
{"asking", "", {
    "Why are you so [sad]?", "What is the matter?", "Can I help you?", "Who made you cry?", "Did something happen?",
}},
{"telling", "", {
    "\"I lost my {thing},\" said {hero.name}.",
    "\"My {thing} is gone, and it was [dear],\" said {hero.name}.",
    "{hero.name} told {friend.him} everything.",
    "\"[Elder_sad],\" said {hero.name}, \"because I lost my {thing}.\"",
}},
{"dear", "", {
    "a present", "very old", "the only one I had", "dear to me", "new",
}},
{"elder_sad", "", {
    "nobody will trust me again", "they will be angry", "it is all my fault", "I am so careless",
}},
{"offer", "", {
    "\"[cheer],\" said {friend}. \"[promise].\"",
    "{friend} thought [thinking]. \"[promise],\" {friend.he} said.",
    "\"[promise],\" {friend} answered, \"because [because_friend].\"",
}},
{"cheer", "", {
    "Do not cry", "Dry your tears", "Cheer up", "Never mind", "It is not so bad", "Be brave",
}},
{"promise", "", {
    "I will help you look", "We will find it together", "Let us search the [area]", "I know where it might be",
    "Four eyes see more than two", "Follow me",
}},
{"area", "", {
    "woods", "garden", "fields", "riverbank", "barn", "path",
}},
{"thinking", "", {
    "for a moment", "hard", "about it", "long and deep", "and nodded",
}},
{"because_friend", "", {
    "you look so [sad]", "I have time", "you once helped my brother", "that is what friends do",
    "I lost something too",
}},
{"search", "", {
    "Together they looked [spot], and then [other_spot].",
    "They searched [spot], but found only [rubbish].",
    "First they looked [spot]. Then they looked [other_spot].",
    "All [daytime] they searched [spot].",
}},
{"spot", "", {
    "under the bushes", "behind the barn", "along the river", "in the long grass", "between the rocks",
    "around the pond", "inside a hollow log", "near the mill", "among the roses",
}},
{"other_spot", "", {
    "up in the trees", "beneath the bridge", "on the roof", "in an empty nest", "down by the shore",
    "at the crossroads", "in a cave", "below the stairs",
}},
{"rubbish", "", {
    "an old shoe", "a broken cup", "three stones", "a sleepy toad", "some feathers", "a rusty nail",
}},
{"finding", "", {
    "At last {friend} saw the {thing} [hidden].",
    "And there it was, [hidden]!",
    "Suddenly {friend} shouted, for the {thing} lay [hidden].",
    "When they had almost given up, {hero.name} spotted it [hidden].",
}},
{"hidden", "", {
    "under a pile of leaves", "in a hollow tree", "on a high branch", "behind a big stone", "at the bottom of a well",
    "between two roots", "in a bird's nest", "half buried in the sand", "next to a sleeping cat",
    "beside the garden gate",
}},
{"thanks", "", {
    "\"Thank you!\" said {hero.name}, and gave {friend} [treat].",
    "{hero.name} was so [happy] that {hero.he} [jumped].",
    "{hero.name} hugged {friend} and shared [treat] with {friend.him}.",
}},
{"treat", "", {
    "an apple", "a piece of cake", "a handful of nuts", "some cheese", "a honey cookie", "half a sandwich",
    "a ripe pear", "a slice of bread", "two carrots",
}},
{"happy", "", {
    "happy", "glad", "pleased", "proud", "grateful", "delighted",
}},
{"jumped", "", {
    "jumped for joy", "danced all the way home", "sang a song", "laughed out loud", "could hardly speak",
}},

/* ---- someone is in trouble ------------------------------------------------------------------------------- */

{"hearing", "", {
    "[one_day] {hero.he} was walking to [place] when {hero.he} heard [noise].",
    "[one_day], near [place], {hero.he} heard [noise].",
    "[one_day] {hero.he} was [hobby] when [noise] made {hero.him} turn around.",
}},
{"noise", "", {
    "a small voice", "a cry for help", "a strange sound", "someone crying", "a sad little song", "a loud splash",
    "a whimper",
}},
{"trapped", "", {
    "It was [friend.intro], who was [trap].",
    "There was [friend.intro], and {friend.he} was [trap].",
    "{hero.He} followed it and found [friend.intro], [trap].",
}},
{"trap", "name why freed", {
    "caught in a thorn bush|I was chasing a butterfly and did not look|pulled the thorns away one by one",
    "stuck in a muddy ditch|I was running home in the dark|held out a long branch",
    "tangled in an old net|I wanted to look at the fish|cut the net with a sharp stone",
    "pinned under a fallen tree|The storm broke it while I slept|lifted the trunk with all {hero.his} strength",
    "locked in a wooden box|I smelled apples and climbed inside|opened the rusty lock with a pin",
    "sitting at the bottom of a dry well|I leaned over too far|let down a rope",
    "floating away on a piece of ice|The river thawed too early|threw a line from the bridge",
    "hanging from a fence by one foot|I tried to jump over it|bent the wire back",
}},
{"plea", "", {
    "Please help me", "Do not leave me here", "I cannot get out", "Help", "I have been here all night",
}},
{"begged", "", {
    "said", "begged", "called", "whispered", "sobbed",
}},
{"freeing", "", {
    "{hero.name} {trap.freed}, and soon {friend} was free.",
    "{hero.name} was [sad] for {friend.him}, so {hero.he} {trap.freed}.",
    "\"[wait],\" said {hero.name}, and {hero.he} {trap.freed}.",
    "It was not easy, but {hero.name} {trap.freed} until {friend} was free.",
}},
{"wait", "", {
    "Hold still", "Do not be afraid", "I am coming", "Wait a moment", "That must hurt", "This will not take long",
}},
{"praise", "", {
    "\"You are [good],\" said {friend}. \"[vow].\"",
    "{friend} was [happy]. \"[vow],\" {friend.he} said.",
    "\"[vow],\" said {friend}, and {friend.he} [left].",
}},
{"good", "", {
    "so kind", "a true friend", "very brave", "as strong as a lion", "the first to stop", "good at this",
}},
{"vow", "", {
    "I will never forget this", "One day I will help you too", "If you need me, call my name", "Now we are friends",
    "How can I ever repay you", "My family will hear of this",
}},
{"left", "", {
    "ran off", "bowed", "vanished into the trees", "waved goodbye", "limped home", "skipped away",
}},
{"repaying", "", {
    "[later] {hero.name} [in_need], and it was {friend} who [helped].",
    "[later] {friend} came back with [treat] and [treat_two].",
    "And {friend} kept that promise: when {hero.name} [in_need], {friend.he} [helped].",
}},
{"later", "", {
    "Some days later", "The next winter", "A week later", "Not long after", "A year later",
}},
{"in_need", "", {
    "lost the way in the fog", "fell into the river", "was hungry and had no bread", "could not find the road home",
    "was chased by a wolf",
}},
{"helped", "", {
    "came at once", "showed {hero.him} what to do", "saved {hero.him}", "ran for help", "led {hero.him} to safety",
    "called all the other animals",
}},
{"treat_two", "", {
    "a basket of berries", "a crown of flowers", "a smooth white pebble", "seven brothers and sisters",
    "a jar of jam", "a letter",
}},

/* ---- someone is afraid ----------------------------------------------------------------------------------- */

{"fearing", "", {
    "But {hero.he} was afraid of [fear].",
    "There was only one thing {hero.he} did not like: [fear].",
    "Still, {hero.he} was scared of [fear], because [fear_reason].",
    "Nobody knew that {hero.he} feared [fear].",
}},
{"fear", "name event", {
    "the dark|the moon went behind a cloud and it was black all around",
    "thunder|the sky rumbled and cracked",
    "big dogs|a huge dog barked behind a gate",
    "deep water|the path led over a lake on thin planks",
    "high places|the road went along a steep cliff",
    "spiders|a spider dropped down on a thread",
    "ghosts|something white moved between the trees",
    "strangers|a tall man with a long beard stood in the way",
    "snakes|something hissed in the grass",
}},
{"fear_reason", "", {
    "{hero.his} brother had told {hero.him} a story", "of a bad dream", "{hero.he} was so small",
    "once, long ago, {hero.he} had been hurt", "nobody had ever explained it",
}},
{"errand", "", {
    "[one_day] [elder] [fell_ill] and needed [medicine].",
    "[one_day] [elder] sent {hero.him} to [place] for [medicine], because [elder_reason].",
    "[one_day] there was no [medicine_short] left, and [elder] [fell_ill].",
}},
{"fell_ill", "", {
    "fell ill", "had a fever", "hurt a leg", "caught a cold", "could not get up",
}},
{"medicine", "", {
    "medicine", "herbs", "hot soup", "a doctor", "clean water", "firewood", "honey", "warm milk",
}},
{"medicine_short", "", {
    "wood", "bread", "oil", "tea", "salt", "flour",
}},
{"elder_reason", "", {
    "the snow was too deep for old legs", "everyone else was away", "there was no time to lose", "it was urgent",
    "the shop would close soon",
}},
{"setting_out", "", {
    "{hero.name} took [tool] and set out.",
    "There was no one else to go, so {hero.name} took [tool] and went.",
    "\"I will go,\" said {hero.name}, and {hero.he} took [tool].",
    "With [tool] in {hero.his} hand, {hero.he} left the house.",
}},
{"tool", "", {
    "a lamp", "a stick", "a warm coat", "a rope", "a basket", "a candle", "a long pole", "a bag", "a whistle",
}},
{"scare", "", {
    "Halfway there, {fear.event}.",
    "Then {fear.event}, and {hero.his} [heart].",
    "All at once {fear.event}. {hero.His} [heart].",
}},
{"heart", "", {
    "heart beat fast", "knees shook", "hands went cold", "hair stood on end", "mouth was dry", "feet would not move",
}},
{"courage", "", {
    "But {hero.he} thought of {elder} and [went_on].",
    "{hero.He} wanted to run, but {hero.he} [calm] and [went_on].",
    "\"I am not afraid,\" {hero.he} whispered, and [went_on].",
    "So {hero.he} [calm], and the fear grew smaller.",
}},
{"calm", "", {
    "took a deep breath", "counted to ten", "sang a song", "closed {hero.his} eyes", "thought of home",
    "made {hero.his} hands into fists", "laughed at it",
}},
{"went_on", "", {
    "went on", "kept walking", "did not turn back", "walked right past it", "took one step, and then another",
}},
{"returning", "", {
    "[late] {hero.he} was back.",
    "[late] {hero.name} came home [tired], but [happy].",
    "When {hero.he} came back, {elder} [welcomed].",
}},
{"late", "", {
    "Before midnight", "At sunrise", "An hour later", "Just in time", "By supper",
}},
{"tired", "", {
    "tired", "wet", "cold", "hungry", "out of breath",
}},
{"welcomed", "", {
    "was waiting at the door", "hugged {hero.him}", "wept with joy", "could hardly believe it",
    "had already put the kettle on",
}},
{"bravest", "", {
    "You are the bravest {hero.child} I know", "I knew you could do it", "You have a lion's heart",
    "Nobody else would have dared", "Were you not afraid", "I am proud of you",
}},

/* ---- a present goes wrong -------------------------------------------------------------------------------- */

{"birthday", "", {
    "It was almost the birthday of [elder].",
    "[one_day] {hero.he} heard that [elder] was coming home.",
    "[Elder] had been [sad] for days, because [elder_sorrow].",
    "The next day [elder] would be [age] years old.",
}},
{"age", "", {
    "fifty", "sixty", "forty", "seventy", "ninety", "thirty",
}},
{"elder_sorrow", "", {
    "the harvest was poor", "the cow had run away", "nobody came to visit", "the roof leaked", "winter would not end",
}},
{"planning", "", {
    "{hero.name} wanted to make [dish].",
    "So {hero.name} decided to bake [dish].",
    "\"I will make [dish],\" thought {hero.name}, \"because [dish_reason].\"",
    "Secretly {hero.name} began to cook [dish].",
}},
{"dish", "name short", {
    "a chocolate cake|cake", "an apple pie|pie", "a pot of soup|soup", "a loaf of bread|bread",
    "a plum tart|tart", "a stack of pancakes|stack", "a cheese pudding|pudding", "a carrot stew|stew",
    "a tray of cookies|tray",
}},
{"dish_reason", "", {
    "everyone likes it", "it smells so good", "I know the recipe by heart", "we have eggs and butter",
    "it is a secret of our family",
}},
{"cooking", "", {
    "{hero.He} mixed [stuff] with [other_stuff] and waited.",
    "First came [stuff], then [other_stuff], and last of all [final_stuff].",
    "{hero.He} borrowed [stuff] from a neighbor and found [other_stuff] in the [larder].",
}},
{"stuff", "", {
    "flour", "butter", "milk", "eggs", "cream", "oats",
}},
{"other_stuff", "", {
    "sugar", "honey", "cinnamon", "nuts", "raisins", "lemon juice",
}},
{"final_stuff", "", {
    "a pinch of salt", "a little love", "a red cherry", "one more spoon of sugar", "a leaf of mint",
}},
{"larder", "", {
    "cellar", "kitchen", "cupboard", "attic", "shed",
}},
{"mishap", "", {
    "But the {dish.short} [ruined], because [ruin_reason].",
    "Then [accident], and the {dish.short} [ruined].",
    "But when {hero.he} looked again, the {dish.short} [ruined_past].",
}},
{"ruined", "", {
    "fell on the floor", "burned", "tasted awful", "turned gray", "stuck to the pan", "began to smoke",
}},
{"ruined_past", "", {
    "had turned black", "was flat", "was as hard as a stone", "had a big hole in it", "had vanished",
}},
{"ruin_reason", "", {
    "the fire was too hot", "{hero.he} had used salt for sugar", "{hero.he} fell asleep", "the cat jumped up",
    "the oven door was open", "{hero.he} was in a hurry",
}},
{"accident", "", {
    "the cat jumped on the table", "the lights went out", "someone knocked loudly", "a bowl slipped",
    "the chimney coughed",
}},
{"dismay", "", {
    "\"Oh no,\" said {hero.name}. \"[despair].\"",
    "{hero.name} was so [sad] that {hero.he} could not [eat].",
    "\"[despair],\" {hero.he} [sighed].",
}},
{"despair", "", {
    "Now I have nothing", "It is too late", "What shall I do", "I have no more eggs", "All that work for nothing",
}},
{"sighed", "", {
    "sighed", "moaned", "said sadly", "groaned", "cried",
}},
{"visitor", "", {
    "[Friend.intro] looked in at the window. \"[idea],\" {friend.he} said.",
    "Just then [friend.intro] came in. \"[idea],\" {friend.he} said.",
    "\"[idea],\" said a voice. It was [friend.intro].",
}},
{"idea", "", {
    "Let us try again", "I have an idea", "Cut off the bad part", "We can cover it with berries",
    "My aunt has a better oven", "I brought more eggs", "Nobody will notice",
}},
{"repair", "", {
    "So they [worked] until the new {dish.short} was [ready].",
    "They [worked] and [worked_more], and it was [ready].",
    "{friend} stirred while {hero.name} [worked_more], and soon all was [ready].",
}},
{"worked", "", {
    "worked all night", "started over", "took a bigger bowl", "mixed and tasted", "washed every pot",
}},
{"worked_more", "", {
    "sang", "lit the fire", "swept the floor", "set the table", "peeled and chopped", "read the recipe",
}},
{"ready", "", {
    "ready", "perfect", "done", "better than before", "golden and sweet", "on the table",
}},
{"party", "", {
    "When {elder} tasted it, {elder.he} [beamed]. \"[best],\" {elder.he} said.",
    "{elder.He} was not there yet, so they waited. Then {elder} came in and [beamed].",
    "That evening {elder} ate [amount] and [beamed].",
}},
{"beamed", "", {
    "smiled", "laughed", "clapped", "danced around the table", "asked for more", "blushed",
}},
{"best", "", {
    "I have never tasted anything so good", "What a surprise", "You made this for me", "It is wonderful",
    "This is the best day of my life",
}},
{"amount", "", {
    "every crumb", "three plates", "a small bite", "more than anyone", "it all",
}},

/* ---- something grows ------------------------------------------------------------------------------------- */

{"seed_given", "", {
    "[one_day] [elder] gave {hero.him} [seed].",
    "[one_day] {hero.he} found [seed] near [place] and showed it to [elder].",
    "[one_day] {hero.he} traded [treat] for [seed]. \"[doubt],\" said [elder].",
}},
{"seed", "name plant", {
    "a sunflower seed|sunflower", "an apple seed|apple tree", "a bean|bean plant", "a pumpkin seed|pumpkin vine",
    "an acorn|oak", "a rose bush no bigger than a thumb|rose bush", "a cherry stone|cherry tree",
    "a grain of corn|stalk",
}},
{"doubt", "", {
    "That is a bad trade", "You will be hungry", "Well, we shall see", "It looks dead to me", "How tiny it is",
}},
{"planting", "", {
    "{hero.name} planted it [plot], because [plot_reason].",
    "{hero.name} dug a hole [plot] and covered it with earth.",
    "Right away {hero.name} put it in the ground [plot].",
}},
{"plot", "", {
    "behind the house", "in a clay pot", "by the gate", "under the window", "next to the well", "on the hill",
    "in the best corner of the garden",
}},
{"plot_reason", "", {
    "the soil was soft there", "the sun shone there all day", "nothing else would grow there",
    "{hero.he} could watch it from bed", "the hens never went there",
}},
{"waiting", "", {
    "Every [daytime] {hero.he} watered it, but nothing [grew].",
    "{hero.He} waited [span], but nothing [grew].",
    "A week went by, and then [span]. Nothing [grew].",
}},
{"span", "", {
    "a month", "ten days", "a long time", "half the summer", "another week",
}},
{"grew", "", {
    "happened", "grew", "moved", "came up", "could be seen",
}},
{"impatience", "", {
    "When will it grow?", "Is it dead?", "Did I do something wrong?", "Why is it so slow?", "Should I dig it up?",
}},
{"patience", "", {
    "Good things take time", "Be patient", "It is sleeping", "A seed cannot hear you", "Wait for the rain",
    "Trust the earth", "You cannot pull it out by the ears",
}},
{"weathering", "", {
    "That night it rained [hard].",
    "Then came the [weather] days of [season], and it rained [hard].",
    "{hero.name} [waited_how], and at last spring came.",
    "A [weather] wind blew, and {hero.name} covered the spot with [cover].",
}},
{"hard", "", {
    "hard", "softly", "until dawn", "for three days", "cats and dogs",
}},
{"season", "", {
    "spring", "April", "May", "early summer", "March",
}},
{"waited_how", "", {
    "waited and sang to it", "learned to wait", "tried to forget it", "built a little fence", "pulled the weeds",
}},
{"cover", "", {
    "straw", "an old blanket", "leaves", "a bucket", "{hero.his} own coat",
}},
{"sprout", "", {
    "The next morning there was [shoot].",
    "And then, [one_sprout], {hero.he} saw [shoot].",
    "\"Look!\" cried {hero.name}, for there was [shoot].",
}},
{"one_sprout", "", {
    "on a Sunday", "quite suddenly", "when no one expected it", "after breakfast", "between two stones",
}},
{"shoot", "", {
    "a green tip", "one tiny leaf", "a shoot as thin as a hair", "a crack in the soil", "a curled stem",
    "something small and pale",
}},
{"harvest", "", {
    "It grew and grew, until the {seed.plant} was [tall].",
    "In the end the {seed.plant} was [tall], and [everyone] came to see it.",
    "The {seed.plant} became [tall], and {hero.name} shared what it gave with [everyone].",
}},
{"tall", "", {
    "taller than the house", "the pride of the village", "as high as a horse", "strong enough to climb",
    "full of bees", "famous",
}},
{"everyone", "", {
    "everyone", "the neighbors", "all the children", "{elder}", "the birds", "even the king",
}},

/* ---- someone goes far away ------------------------------------------------------------------------------- */

{"wondering", "", {
    "{hero.name} often wondered about [wonder].",
    "[Elder_once] had told {hero.him} about [wonder].",
    "In a book {hero.he} had read of [wonder].",
    "More than anything {hero.he} wished to see [wonder].",
}},
{"elder_once", "", {
    "a sailor", "a traveler", "an old woman", "the postman", "a singing beggar",
}},
{"wonder", "", {
    "the great waterfall", "the singing mountain", "the edge of the world", "the city of glass",
    "the island of birds", "the oldest tree", "the king's garden", "the frozen sea", "the valley of echoes",
}},
{"departure", "", {
    "So [one_day_small] {hero.he} packed [food] and [tool], and left.",
    "[one_day] {hero.he} put [food] in a bag and left.",
    "[one_day] {hero.he} said goodbye, took [tool], and left.",
}},
{"one_day_small", "", {
    "one [weather] [daytime]",
}},
{"food", "", {
    "bread", "some cheese", "three apples", "a cold potato", "a bottle of milk", "plenty of nuts",
}},
{"crossing", "", {
    "{hero.He} crossed [barrier] [means].",
    "First {hero.he} had to cross [barrier], and {hero.he} did it [means].",
    "The road led across [barrier], but {hero.he} was not afraid.",
}},
{"barrier", "", {
    "a wide river", "a dark forest", "a desert", "a swamp", "a snowy pass", "seven hills", "a broken bridge",
}},
{"means", "", {
    "on a raft", "step by step", "on the back of a donkey", "with the help of a kind farmer", "in a single day",
    "by following the stars", "without looking down",
}},
{"encounter", "", {
    "On the other side {hero.he} met [friend.intro]. \"[whither]\" asked {friend}.",
    "There {hero.he} saw [friend.intro], who was [doing]. \"[whither]\" {friend.he} asked.",
    "\"[whither]\" said [friend.intro], who was [doing].",
}},
{"doing", "", {
    "fishing", "resting", "singing", "mending a shoe", "looking for nuts", "washing socks", "juggling pears",
}},
{"whither", "", {
    "Where are you going?", "What brings you here?", "Are you lost?", "May I come along?", "Who are you?",
}},
{"going_on", "", {
    "\"To {wonder},\" said {hero.name}. \"[invite].\"",
    "\"I want to see {wonder},\" said {hero.name}, \"because [wander_reason].\"",
    "So they went on together, and {friend} [told].",
}},
{"invite", "", {
    "Come with me", "Is it far", "Do you know the way", "I have walked for days", "Nothing will stop me",
}},
{"wander_reason", "", {
    "I have dreamed of it", "nobody believes in it", "home is so small", "I promised it", "life is short",
}},
{"told", "", {
    "told jokes", "knew every path", "carried the bag", "sang all the way", "never stopped talking",
}},
{"arrival", "", {
    "They walked until [until], and there it was.",
    "After [journey_span] they came to {wonder}.",
    "They slept [slept], and when they woke they saw {wonder}.",
}},
{"until", "", {
    "the sun went down", "their feet hurt", "the road ended", "they could walk no more", "the fog lifted",
}},
{"journey_span", "", {
    "two days", "a week", "many miles", "a hard climb", "the last hill",
}},
{"slept", "", {
    "in a barn", "under the stars", "in a cave", "beside a fire", "on soft moss",
}},
{"marvel", "", {
    "It was [bigger] than {hero.he} had thought.",
    "\"It is [beautiful],\" whispered {hero.name}.",
    "{friend} was [speechless], and {hero.name} [cried_joy].",
}},
{"bigger", "", {
    "bigger", "smaller", "brighter", "stranger", "louder", "older",
}},
{"beautiful", "", {
    "beautiful", "real", "like a dream", "worth every step", "not on any map",
}},
{"speechless", "", {
    "speechless", "amazed", "not surprised", "already asleep", "a little afraid",
}},
{"cried_joy", "", {
    "cried for joy", "laughed", "sat very still", "drew a picture of it", "picked up a stone to remember it",
}},
{"homecoming", "", {
    "When {hero.he} came home, everyone [listened].",
    "Back home, {hero.he} told the story [times].",
    "They stayed [stay] and then walked home again.",
}},
{"listened", "", {
    "listened with open mouths", "wanted to hear the story", "asked a hundred questions", "said it could not be true",
    "cheered",
}},
{"times", "", {
    "again and again", "to anyone who asked", "by the fire", "only once", "every winter",
}},
{"stay", "", {
    "for a day", "all summer", "until the bread was gone", "as long as they could", "one night",
}},

/* ---- two want the same ----------------------------------------------------------------------------------- */

{"friendship", "", {
    "{hero.His} best friend was [friend.intro].",
    "Next door lived [friend.intro], and the two were [together].",
    "{hero.He} had a friend, [friend.intro].",
}},
{"together", "", {
    "always together", "like twins", "good friends", "never apart", "the same age",
}},
{"discovery", "", {
    "[one_day], near [place], they found [color] [thing] [hidden].",
    "[one_day] they saw [color] [thing] [hidden].",
    "[one_day] a stranger gave them [color] [thing], because [stranger_reason].",
}},
{"stranger_reason", "", {
    "they had been polite", "he needed it no more", "they made him laugh", "his bag was too heavy",
    "they had shown him the way",
}},
{"mine", "", {
    "It is mine", "I saw it first", "Give it to me", "I want it", "Let go",
}},
{"no_mine", "", {
    "No, it is mine", "You always get everything", "But I need it more", "That is not fair", "You had the last one",
}},
{"cried", "", {
    "said", "cried", "shouted", "snapped", "yelled",
}},
{"tugging", "", {
    "They pulled and pulled, until the {thing} [broke].",
    "{friend} pulled on one side and {hero.name} on the other, and the {thing} [broke].",
    "They began to fight, and the {thing} [broke].",
}},
{"broke", "", {
    "snapped", "broke in two", "fell into the mud", "cracked", "was bent", "flew over the wall",
}},
{"silence", "", {
    "They did not speak for [silence_span].",
    "Both were [angry], and each went home alone.",
    "{friend} was [angry] and ran away.",
}},
{"silence_span", "", {
    "three days", "a week", "a whole month", "the rest of the day", "two nights",
}},
{"angry", "", {
    "angry", "hurt", "furious", "ashamed", "bitter", "silent",
}},
{"regret", "", {
    "But {hero.name} soon felt [sad], because [regret_reason].",
    "That night {hero.name} could not [eat], because [regret_reason].",
    "\"You are wrong, and you know it,\" said [elder], and {hero.name} [nodded].",
}},
{"regret_reason", "", {
    "playing alone was no fun", "{friend} had always been kind", "the house was so quiet", "it was only a {thing}",
    "nobody laughed at {hero.his} jokes",
}},
{"nodded", "", {
    "nodded", "blushed", "began to cry", "knew it was true", "looked at the floor",
}},
{"sorry", "", {
    "{hero.He} went to {friend} with [treat]. \"I am sorry,\" {hero.he} said.",
    "So {hero.he} [knocked]. \"Please forgive me,\" {hero.he} said. \"[plead].\"",
    "In the morning {friend} came to the door. \"[plead],\" {friend.he} said.",
}},
{"knocked", "", {
    "knocked at the door", "wrote a letter", "waited by the gate", "brought flowers", "called over the fence",
}},
{"plead", "", {
    "I miss you", "I was wrong", "You may have it", "Let us be friends again", "I was a fool",
}},
{"mending", "", {
    "Together they mended the {thing} with [glue].",
    "They fixed the {thing} with [glue] and laughed about it.",
    "They threw the {thing} away and [played] instead.",
    "Then they gave the {thing} to [receiver].",
}},
{"glue", "", {
    "glue", "string", "a nail", "wire", "a patch", "wax",
}},
{"played", "", {
    "played in the snow", "went swimming", "climbed a tree", "built a hut", "shared a pie",
}},
{"receiver", "", {
    "a poor child", "the school", "a bird who had none", "the baby next door", "the museum",
}},

/* ---- how stories end ------------------------------------------------------------------------------------- */

{"lesson_help", "", {
    "[From_then] {hero.name} and {friend} were friends.",
    "{hero.name} learned that [lesson_helping].",
    "[goodnight]",
}},
{"lesson_helping", "", {
    "a friend in need is a friend indeed", "nobody is too small to help", "asking for help is not a shame",
    "kindness comes back", "two are better than one",
}},
{"lesson_brave", "", {
    "[From_then] {hero.he} was no longer afraid of {fear}.",
    "{hero.name} learned that [lesson_daring].",
    "[goodnight]",
}},
{"lesson_daring", "", {
    "the brave are afraid too", "fear is smaller than love", "most monsters are shadows",
    "courage is walking on", "the dark has no teeth",
}},
{"lesson_heart", "", {
    "{hero.name} learned that [lesson_giving].",
    "They all ate and laughed until [until_late].",
    "[goodnight]",
}},
{"lesson_giving", "", {
    "the best gifts come from the heart", "mistakes can be mended", "it is never too late to try again",
    "nobody has to be perfect", "good friends make good cooks",
}},
{"until_late", "", {
    "the stars came out", "the candles went out", "midnight", "their sides hurt", "the plates were empty",
}},
{"lesson_patience", "", {
    "{hero.name} learned that [lesson_waiting].",
    "[From_then] {hero.he} always kept a seed in {hero.his} pocket.",
    "[goodnight]",
}},
{"lesson_waiting", "", {
    "good things come slowly", "waiting is also work", "great things start small", "rain is not bad weather",
    "love makes things grow",
}},
{"lesson_world", "", {
    "{hero.name} learned that [lesson_wandering].",
    "[From_then] {hero.he} and {friend} went on a journey every year.",
    "[goodnight]",
}},
{"lesson_wandering", "", {
    "the world is wide", "the way is better than the end", "home is best of all", "every road leads to a friend",
    "old stories can be true",
}},
{"lesson_share", "", {
    "{hero.name} learned that [lesson_sharing].",
    "[From_then] they shared everything they found.",
    "[goodnight]",
}},
{"lesson_sharing", "", {
    "a friend is worth more than a {thing}", "sharing doubles the joy", "sorry is a strong word",
    "things can be broken, but friendship can be mended", "two can play with one {thing}",
}},
{"from_then", "", {
    "from that day on", "ever after", "after that", "for the rest of that year", "and so",
}},
{"goodnight", "", {
    "That night {hero.name} slept [soundly].",
    "{hero.name} never forgot that [weather] day.",
    "And if you go there today, you may still hear {hero.name} [sounding].",
    "The end.",
}},
{"soundly", "", {
    "soundly", "like a stone", "with a smile", "until noon", "and dreamed of [dream]", "under a warm blanket",
}},
{"dream", "", {
    "the sea", "flying", "tomorrow", "a golden fish", "stars", "cake",
}},
{"sounding", "", {
    "laugh", "sing", "whistle", "telling this story", "calling {hero.his} friends",
}},
};
/* clang-format on */

#endif
