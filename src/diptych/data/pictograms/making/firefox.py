"""Names of fxemoji that were matched by eye: its own words → bare code points; and names that mean another thing there."""

from __future__ import annotations

_BY_EYE = """
2hearts 1f495 · acorn 1f330 · americasglobe 1f30e · asiaaustraliaglobe 1f30f · europeafricaglobe 1f30d · meridianglobe 1f310
anguish 1f627 · frownmouth 1f626 · aok 1f44c · flexbicep 1f4aa · fistedhand 1f44a · handup 1f64b · high5 1f64c · hands 1f450
arrowrightwardsdownwards 2935 · arrowrightwardsupwards 2934 · anticlockwiseupwardsanddownwardsarrows 1f504
backwithleftwardsarrow 1f519 · endwithleftwardsarrow 1f51a · onarrowleftright 1f51b · soonwithrightarrow 1f51c
topwithupwardsarrow 1f51d · ballottboxwithballott 1f5f3 · banknotedollar 1f4b5 · banknoteeuro 1f4b6 · banknotepound 1f4b7
banknoteyen 1f4b4 · beating-heart 2764 · bellcancellation 1f515 · ringingbell 1f514 · blackdownpointingdoublearrow 23ec
blackuppointingdoublearrow 23eb · blackleftpointingarrow 25c0 · blackrightpointingarrow 25b6 · blackleftpointingdoublearrow 23ea
blackrightpointingdoublearrow 23e9 · blackskullcrossbones 2620 · blackpushpin 1f4cc · blackdroplet 1f4a7 · blackwaving 1f3f4
blonde 1f471 · bride 1f470 · construct 1f477 · bowing 1f647 · bolt 26a1 · bookmarktab 1f4d1 · bouquetofflowers 1f490 · boy 1f466
girl 1f467 · man 1f468 · woman 1f469 · gma 1f475 · gpa 1f474 · princess 1f478 · frown 1f64d · nogesture 1f645 · okgesture 1f646
waitress 1f481 · headmassage 1f486 · guapimao 1f472 · turban 1f473 · sleuthspy 1f575 · bullhorn 1f4e2 · bunny 1f430 · bunnyside 1f407
bunny-ears 1f46f · catside 1f408 · dogside 1f415 · dragonhead 1f432 · dragonside 1f409 · leopardside 1f406 · mouseside 1f401
pigside 1f416 · pigsnout 1f43d · tigerside 1f405 · hampster 1f439 · frontfacingchick 1f425 · spurtingwhale 1f433 · cellphone 1f4f1
chartdownwardstrend 1f4c9 · chartupwardstrend 1f4c8 · chartupwardstrendyen 1f4b9 · chilipepper 1f336 · evergreen 1f332
cjkunifiedideograph-a 1f22f · cjkunifiedideograph-b 1f23a · cjkunifiedideograph-c 1f232 · cjkunifiedideograph-d 1f233
cjkunifiedideograph-e 1f234 · cjkunifiedideograph-f 1f235 · cjkunifiedideograph-g 1f236 · cjkunifiedideograph-h 1f237
cjkunifiedideograph-i 1f21a · cjkunifiedideograph-j 1f238 · cjkunifiedideograph-k 1f239
clock12oclock 1f55b · clock12thirty 1f567 · clock1oclock 1f550 · clock1thirty 1f55c · clock2oclock 1f551 · clock2thirty 1f55d
clock3oclock 1f552 · clock3thirty 1f55e · clock4oclock 1f553 · clock4thirty 1f55f · clock5thirty 1f560 · clock6oclock 1f555
clock6thirty 1f561 · clock7oclock 1f556 · clockwisedownupcircledarrows 1f503 · clockwiserightwardsleftwardscirclearrows 1f501
clockwiserightwardsleftwardscirclearrowsone 1f502 · closedmailboxlowered 1f4ea · closedmailboxraised 1f4eb
openmailboxlowered 1f4ed · openmailboxraised 1f4ec · confetti 1f38a · construction 1f3d7 · contact 1f464 · contact2 1f465
controlknob 1f39b · couple 1f491 · couplekiss 1f48f · crossedflags 1f38c · crying 1f622 · loudlycrying 1f62d · devilhorns 1f608
diamondshapewithdotinside 1f4a0 · dissapointedrelief 1f625 · doubleexclaimationmark 203c · exclaimationquestionmark 2049
heavyexclaimationmarksymbol 2757 · blackquestionmark 2753 · whiteexclaimationmark 2755 · downpointingsmallredtrisngle 1f53d
uppointingsmallredtrisngle 1f53c · eightspokedasterix 2733 · envelopedownarrowabove 1f4e9 · fallingleaf 1f342
leaffluttering 1f343 · faxicon 1f4e0 · fishcakeswirl 1f365 · floppydisk2 1f4be · folder 1f4c1 · openfolder 1f4c2 · forkknife 1f37d
grineyes 1f604 · grinsquint 1f606 · grinsweat 1f605 · grintears 1f602 · grinwide 1f603 · grinwideeyes 1f600
handheldvideocamera 1f4f9 · heartarrow 1f498 · heartgreen 1f49a · heartpurple 1f49c · heartyellow 1f49b · heavylatincross 271d
heavymultiplicationsymbol 2716 · heels 1f460 · highspeedtrainbulletnose 1f685 · index 261d · japaneseangrymask 1f47a
kissclosedeyes 1f61a · kisseyes 1f617 · kissing 1f618 · left 1f448 · right 1f449 · telephonereceiver2 1f4de
leftmagnifyingglass 1f50d · rightmagnifyingglass 1f50e · leftthoughtbubble 1f4ad · leftwritinghand 270d · lips 1f444
lockandkey 1f510 · lowerleftpen 1f58a · lowerleftpencil 270f · makeupbag 1f45d · pinkwallet 1f45b · manltepiececlock 1f570
mansshirt 1f455 · womansshirt 1f45a · mensrunner 1f45f · mensshoe 1f45e · sandals 1f461 · monkeyhear 1f649 · monkeysee 1f648
monkeyspeak 1f64a · musicascend 1f3b5 · negativesquaredlatincaptiala 1f170 · negativesquaredlatincaptialb 1f171
negativesquaredlatincaptialo 1f17e · nooneunder18symbol 1f51e · notebookdecorativecover 1f4d4 · oldpersonalcomputer 1f4bb
opticaldiscicon 1f4bf · outbox 1f4e4 · perservere 1f623 · phonerightarrowleft 1f4f2 · portablestereo 1f4fb · potablewatersystem 1f6b0
present 1f381 · printericon 1f5a8 · raisedhandpartfingers 1f596 · raisedhandsfingerssplayed 1f590 · reminder 1f397
reversehandmiddlefinger 1f595 · rightspeaker 1f508 · speaker3soundwaves 1f50a · speakercancellation 1f507
speakeronesoundwave 1f509 · saggitarius 2650 · screamfear 1f631 · silhouetteohjapan 1f5fe · sixpointedstarwithdot 1f52f
smallfrown 1f641 · smallsmile 1f642 · smileeyes 1f60a · smiletongue 1f60b · snowmountains 1f3d4 · speechbubble 1f4ac
squaredup 1f199 · star 2b50 · stormcloud 1f329 · studiomic 1f399 · sunraincloud 1f326 · sunrays 2600 · sweatsplash 1f4a6
telephoneonmodem 260e · tennisball 1f3be · tongueoutwink 1f61c · tongueoutwink2 1f61d · toykotower 1f5fc
triangularflagonpost 1f6a9 · videocasette 1f4fc · waningbibbousmoon 1f316 · waving 1f44b · winking 1f609 · wiredkeyboard 2328
pout 1f64e · pouting 1f621
"""

NAMES: dict[str, str] = dict(entry.split() for line in _BY_EYE.split("\n") for entry in line.split("·") if entry)  # type: ignore[misc]
# what these names say is not what the drawing shows (a revolver, a window on a screen), or it is broken or all but invisible
WRONG: frozenset[str] = frozenset({"heartblue", "pistol", "window", "tramcar", "fog"})
