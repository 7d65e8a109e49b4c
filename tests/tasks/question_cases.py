r"""(gold, answer, question) of quantities in words and units: what a judge once got wrong, and others of those kinds.

Lines with "?" are a question, what follows are its pairs; a question of no words is one that nobody knows.
"""

from __future__ import annotations

FALSE_PAIRS = r"""
?
  3 kg -> 3 g | 12 cm -> 12 m | 12 cm -> 12 kg | 20 min -> 20 h | 7 km -> 7 m | 1/2 m -> 1/2 km | 45 mph -> 45 km/h
  3 1/2 -> 31/2 | 2\frac{1}{3}x -> \frac{2}{3}x | 7 km -> 7m | 7 km -> 700 m | 3 kg -> 3 kg^2 | 3 m^2 -> 3 m
  3 m^2 -> 300 cm^2 | 12 cm -> 12 in | 2 1/2 x -> 21/2 x | 1\frac{1}{2}\pi -> \frac{1}{2}\pi | x^{23} -> x^{2}3
  3x^2 -> x^23 | 2\pi cm -> 2\pi m | \sqrt{2} km -> \sqrt{2} kg | x+3 -> x+3 m | x+3 m -> x+3
  2\pi\text{ m} -> 2\pi\text{ km} | 3 R 2 -> 2 R 3 | 5 -> 5 hundred | 5 -> 5 or so | 5 -> 5 tenths | 5 -> 5 squared
  3:4 -> 6:8 | 1 month -> 30 days | 3 tons -> 6000 pounds | 5 -> at least 5 | 5 -> about 5 | 16 -> 6*2+4 = 16
  5 -> 5 below zero | 3 pm -> 3 am | 3-5 -> 5-3 | 3:4 -> 4:3 | 1, 2 -> 12 | 1, 2 -> 1.2 | 12 kb -> 12 bk
  5 red balls -> 5 blue balls | 100 years of solitude -> 100 years of war | 5 feet wide -> 5 feet tall | $5 -> €5
  20 °C -> 20 °F | 2 hours 30 minutes -> 2.3 hours | 0 < x < 4 -> 0 > x > 4 | x > 3 -> y > 3 | x > 3 -> x \ge 3
  \pm 4 -> 4 | 5% -> 0.05
? How long is it, in cm?
  18 -> 18 m | 18 -> 18 kg
? How fast is the car, in mph?
  60 -> 60 km/h
? How many dollars does it cost?
  18 -> 18 cents
? Tom has 3 bags of 4 apples and 2 pears. How many apples does Tom have left?
  5 -> 5 pears | 5 -> 5 kg | 5 apples -> 5 pears | 5 -> Tom does not have 5 apples | 5 -> Tom has more than 5 apples
  5 -> Tom has 4 or 5 apples | 5 -> five or six | 3 -> one two
? How long is the rope?
  18 -> 18 kg
? A stick of 10 cm and one of 8 cm are joined. What do they measure?
  18 -> 18 m
? How long is the road?
  7 km -> 7
? How long is the road, in metres?
  7 km -> 7
? What percent is that?
  25 -> 0.25
? What is the probability?
  0.25 -> 25
? Solve 2x = 10.
  5 -> 2x = 5
? Find f(4).
  8 -> f(3) = 8
? Find f(3) if f(x) = x^2 - 1.
  8 -> f(x) = 8 | 8 -> f(8) = 3 | 8 -> f(3) = 3^2 - 1
? A shirt rises from $40 to $50. By what percent did the price increase?
  25% -> $25 | 25% -> 0.25
? At which point do they meet?
  (0, 2) -> 0 < x < 2
? Write 5 in binary.
  101 -> 101_3
? What does it cost in dollars, to the nearest cent?
  3.50 -> 350
? Who ran the fastest?
  Evelyn -> Briana ran the fastest
? Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did
? Natalia sell altogether in April and May?
  72 -> 72 friends | 72 -> 72 kg
? Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?
  10 -> 10 cents | 10 -> 10 minutes | 10 -> 10 hours
? Betty is saving money for a new wallet which costs $100. Betty has only half of the money she needs. How much more
? money does Betty need to buy the wallet?
  5 -> 5 wallets
? James writes a 3-page letter to 2 different friends twice a week. How many pages does he write a year?
  624 -> 624 letters | 624 -> 624 pages per week
? Ken added jelly beans to bring the weight to 2 pounds. What was the final weight of the box of goodies, in pounds?
  16 -> 16 kg | 16 -> 16 ounces
? Alexis bought clothes. She set a budget of $200 and spent $30 on a shirt. How much did Alexis pay for the shoes?
  41 -> 41 shirts
? Tina makes $18.00 an hour. If she works 10 hours every day for 5 days, how much money does she make?
  990 -> 990 hours
? On a ship full of people, how many people were on the ship the monster ate in the first hundred years?
  847 -> 847 years
? He buys 2 pounds of cheddar cheese for $10. What is the total cost?
  35 -> 35 pounds of cheese | 35 -> 35 kg
? Joy can read 8 pages of a book in 20 minutes. How many hours will it take her to read 120 pages?
  5 -> 5 minutes | 5 -> 5 pages
? John runs 60 miles a week. He runs 3 days a week. He runs 3 hours the first day. How fast does he run?
  10 -> 10 miles | 10 -> 10 hours
? How many sheep do Toulouse, Charleston, and Seattle have together if Seattle has 20 sheep?
  260 -> 260 goats
? Eliza's rate per hour for the first 40 hours is $10. How much are her earnings for this week?
  460 -> 460 hours
? How many years ago was Samantha 5?
  14 -> 14 months
? How old is Ed?
  8 -> 8 kg
? There are 30 more gold coins than silver coins. How many gold coins does Gretchen have?
  70 -> 70 silver coins
? Janet's ducks lay 16 eggs per day. She sells them for $2 per egg. How much in dollars does she make every day at
? the farmers' market?
  18 -> 18 eggs | 18 -> 18 cents
? A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?
  3 -> 3 robes
? James decides to run 3 sprints 3 times a week. He runs 60 meters each sprint. How many total meters does he run a
? week?
  540 -> 540 km | 540 -> 540 sprints
? How many cups of feed does she need to give her chickens in the final meal of the day?
  20 -> 20 chickens
? What percentage of the students play chess?
  25 -> 0.25 | 25 -> 25 students | 25 -> 25 percentage points
? A train travels 60 miles in 1 hour. How far from home is he?
  45 -> 45 hours | 45 -> 45 km
? How long did the walk take?
  2.5 -> 2.5 km
? Find the area of the triangle with sides 3 cm, 4 cm, 5 cm.
  6 -> 6 cm | 6 -> 6 m
? How many square feet of carpet are needed?
  12 -> 12 feet | 12 -> 12 square meters
? What is the value of x?
  7 -> 7x
? What is the measure of angle ABC, in degrees?
  60 -> 60 radians | 60 -> 60%
? How many kilograms of flour does she need?
  1.5 -> 1.5 g | 1.5 -> 1.5 lb
? The car travels 60 km/h for 2 hours. What distance does it cover?
  120 -> 120 hours | 120 -> 120 kg
? How many dozen eggs did he buy?
  9 -> 9 eggs
? How many calories are in a serving?
  400 -> 400 kg
? How many more apples than pears are there?
  3 -> 3 pears
? How much taller is Tom than Ann, in inches?
  15 -> 15 feet | 15 -> 15 cm
? How many minutes longer did she wait?
  30 -> 30 hours
?
  5 m/s -> 5 s/m | 5 m/s -> 5 m | $1.5 million -> $1.5 | 5% -> 5 | 10-20 -> 10 | 3 h -> 3 min | 1 MW -> 1 mW
  x=3,y=4 -> x=4,y=3 | 12 -> 12 dozen | 12 dozen -> 12 | 20 °C -> 20 K | 5 lb -> 5 oz | 1 h 30 min -> 1.3 h
  1.5 h -> 1 h 50 min | 5 -> 5 (or 6) | 5 -> 5-6 | 5 -> 5\pm 1 | 5 -> 5 percent | 3 -> 3rd | 100 -> 100 percent
  7 -> 7x | 5 N -> 5 kg | 3.5 GB -> 3.5 MB | 1/2 -> 1/2 of 1/2 | 5 -> 5 over 6 | 5 -> 5 divided by 1 | 1 -> 1 over x
  5 -> 5 factorial | 12 -> 12 base 3 | 5 -> 5e | 5 -> 5 thousand | 5 -> 5k | 5 -> 5M | 24 cm^2 -> 24 cm
  42 -> The answer is not 42. | 42 -> The answer is 42 or 43. | 42 -> 42, 43 | A -> Option A or B | 3:4 -> 3:5
  12:30 -> 12:03 | 1,234 -> 1,2,3,4 | 2, 3, 4 -> 2, 34 | 2 -> 2 and 3 | (1,2) -> [1,2] | x^2 y -> x^2y^2 | ab -> a b c
  12 -> 1 2 | 1/2 -> 12 | 2 m -> 2 M | 5 mg -> 5 Mg | 10 Pa -> 10 kPa | $5 -> 5 cents | 5 dollars -> 5 dimes
  0.5 -> 0.5% | 0.5 -> 1/2% | 3 1/2 -> 3 1/3 | 3 1/2 -> -3 1/2 | 3 1/2 -> 3 - 1/2 | 3 1/2 -> 3 * 1/2 | 3 1/2 -> 31 / 2
  2\frac{1}{2} -> 2 \cdot \frac{1}{2} | 2\frac{1}{3}x -> \frac{2x}{3} | x\frac{1}{2} -> x+\frac12 | 5 cm -> 5 cm^3
  5\text{ cm} -> 5\text{ cm}^2 | 3 x 4 -> 34 | 10:30 -> 1030 | 10 30 -> 1030 | a b -> ba c | 1.5 -> 15 | 1.5.2 -> 1.52
  12 March -> 1 2 March | 3-4-5 -> 345 | AB 12 -> AB 21 | 7 1/2% -> 71/2% | 5 3/4 m -> 53/4 m | R2D2 -> R2 D3
  x_1 + x_2 -> x_1+x_3 | x_{12} -> x_1 2 | x_{12} -> x_12 3 | 2x 3 -> 23x | 2 sin x -> 2 sin y | 3 m 5 cm -> 35 cm
  3 m 5 cm -> 3.5 m | 45 mph -> 45 m/s | 2^{34} -> 2^3 4 | 2^{34} -> 2^34 1 | x^2 3 -> x^{23} | \sqrt{12} -> \sqrt{1}2
  \sqrt{12} -> \sqrt 1 2 | \frac{12}{5} -> \frac{1}{5}2 | \log_{12} 5 -> \log_1 25 | 5 \text{ red} -> 5 \text{ blue}
  x \text{ m} -> x \text{ km} | 3x \text{ cm} -> 3x \text{ m} | \pi m -> \pi g | 12 ab -> 12 a | 5 ft -> 5 in
  5 ft -> 5'6"
? What is its volume?
  24 -> 24 cm
? How fast does he drive?
  20 -> 20 hours
? How many pears?
  5 apples -> 5
? How many hours?
  60 minutes -> 60
"""

RIGHT_PAIRS = r"""
?
  5 red apples -> 5 apples | 100 °C -> 212 °F | whale -> the whale | 1, 2 -> 1 and 2 | 5, -5 -> \pm 5 | $2 million -> $2,000,000
  42 -> So the answer is 42. | 42 -> #### 42 | 42 -> = 42 | 18 -> 18 dollars | 1, 2, 3 -> 1,2,3 | 3:4 -> 3 : 4
  25% -> 25 percent | 3 hours -> 3 hrs | 45^\circ -> 45 degrees | 5 -> x = 5 | [0,1) -> x \in [0,1)
  (-\infty,1)\cup(2,3] -> (2,3]\cup(-\infty,1) | 300 -> 3*10^2 | 90 -> 90 degrees | 3 1/2 -> 3.5 | 3 1/2 -> 7/2
  7 km -> 7000 m | 5 -> 5 apples | 2\frac{1}{3}x -> \frac{7}{3}x | 2\pi m -> 200\pi cm
  (-\infty,-\sqrt{2})\cup(\sqrt{2},\infty) -> (\sqrt{2},\infty)\cup(-\infty,-\sqrt{2}) | 3 pm -> 15:00 | 3-5 -> 3 to 5
  3 to 5 hours -> between 3 and 5 hours | 5 ft 3 in -> 63 inches | $3.50 -> 3 dollars and 50 cents
  90^\circ -> \frac{\pi}{2} radians | \frac{1}{3} -> 0.\overline{3} | x > 3 -> (3, \infty) | 5 pounds -> £5
  5 pounds -> 5 lb | 1 acre -> 43560 square feet | 60 mph -> 88 ft/s | 16 -> 6*2 = 12, then 12+4\n#### 16 | 5 -> *5*
  yes -> **Yes** | s^2 -> s**2 | \log_2 5 -> \frac{\log 5}{\log 2}
? Tom has 3 bags of 4 apples and 2 pears. How many apples does Tom have left?
  5 -> 5 apples | 5 -> Tom has 5 apples left. | 5 -> five apples | 5 apples -> 5
? How fast is the car, in mph?
  60 -> 60 mph
? How long is it, in cm?
  18 -> 18 cm | 18 -> 0.18 m | 12 cm -> 12
? How many dollars does it cost?
  18 -> $18
? How many metres is it?
  7 km -> 7000 | 18 -> 18m
? How much water is left?
  3 -> 3 liters
? What is it, in millions?
  3 -> 3 million
? What does he pay, to the nearest cent?
  3.50 -> $3.50
? How many dollars does he earn per hour?
  5 -> $5 per hour
? Find f(3).
  8 -> f(3) = 8
? Find f(3) if f(x) = x^2 - 1.
  8 -> f(3) = 8
? What is g(2) when g(x) = 5x?
  10 -> g(2) = 10
? A shirt rises from $40 to $50. By what percent did the price increase?
  25% -> 25 | 25 -> 25% | 25% -> 25 percent
? Compute 2^3 + 1.
  9 -> 2^3 + 1 = 9
? What is the probability?
  0.25 -> 25%
? How many chocolate bars are left?
  5 -> 5 chocolate bars
? Who ran the fastest?
  Evelyn -> Evelyn ran the fastest
? The sides are 8 cm and 10 cm. What is their sum?
  18 -> 18 cm
? Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did
? Natalia sell altogether in April and May?
  72 -> 72 clips | 72 -> 72 clips altogether | 72 -> Natalia sold 72 clips altogether in April and May.
? Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?
  10 -> $10 | 10 -> 10 dollars | 10 -> $10.00 | 10 -> She earned $10.
? Betty is saving money for a new wallet which costs $100. Betty has only half of the money she needs. How much more
? money does Betty need to buy the wallet?
  5 -> $5 | 5 -> 5 dollars | 5 -> Betty needs $5 more.
? James writes a 3-page letter to 2 different friends twice a week. How many pages does he write a year?
  624 -> 624 pages | 624 -> 624 pages a year | 624 -> 624 pages per year | 624 -> He writes 624 pages a year.
? Ken added jelly beans to bring the weight to 2 pounds. What was the final weight of the box of goodies, in pounds?
  16 -> 16 pounds | 16 -> 16 lbs | 16 -> 16 lb | 16 -> 256 ounces | 16 -> The final weight of the box was 16 pounds.
? Alexis bought clothes. She set a budget of $200 and spent $30 on a shirt. How much did Alexis pay for the shoes?
  41 -> $41 | 41 -> 41 dollars
? Tina makes $18.00 an hour. If she works 10 hours every day for 5 days, how much money does she make?
  990 -> $990 | 990 -> 990 dollars | 990 -> $990.00
? On a ship full of people, how many people were on the ship the monster ate in the first hundred years?
  847 -> 847 people | 847 -> 847 persons
? He buys 2 pounds of cheddar cheese for $10. What is the total cost?
  35 -> $35 | 35 -> 35 dollars
? Joy can read 8 pages of a book in 20 minutes. How many hours will it take her to read 120 pages?
  5 -> 5 hours | 5 -> 5 h | 5 -> 300 minutes
? John runs 60 miles a week. He runs 3 days a week. He runs 3 hours the first day. How fast does he run?
  10 -> 10 mph | 10 -> 10 miles per hour | 10 -> 10 miles an hour | 10 -> He runs 10 miles per hour.
? How many sheep do Toulouse, Charleston, and Seattle have together if Seattle has 20 sheep?
  260 -> 260 sheep
? Eliza's rate per hour for the first 40 hours is $10. How much are her earnings for this week?
  460 -> $460 | 460 -> 460 dollars
? How many years ago was Samantha 5?
  14 -> 14 years | 14 -> 14 years ago
? How old is Ed?
  8 -> 8 years old | 8 -> 8 years
? There are 30 more gold coins than silver coins. How many gold coins does Gretchen have?
  70 -> 70 gold coins | 70 -> 70 coins
? Janet's ducks lay 16 eggs per day. She sells them for $2 per egg. How much in dollars does she make every day at
? the farmers' market?
  18 -> $18 | 18 -> $18 per day | 18 -> 18 dollars every day | 18 -> $18 every day | 18 -> She makes $18 every day.
? A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total does it take?
  3 -> 3 bolts | 3 -> It takes 3 bolts in total.
? James decides to run 3 sprints 3 times a week. He runs 60 meters each sprint. How many total meters does he run a
? week?
  540 -> 540 meters | 540 -> 540 meters a week | 540 -> 540 m | 540 -> 0.54 km
? How many cups of feed does she need to give her chickens in the final meal of the day?
  20 -> 20 cups | 20 -> 20 cups of feed | 20 -> She needs to give 20 cups of feed.
? What percentage of the students play chess?
  25 -> 25% | 25 -> 25 percent | 25 -> 25 percent of the students
? A train travels 60 miles in 1 hour. How far from home is he?
  45 -> 45 miles | 45 -> 45 miles away
? How long did the walk take?
  2.5 -> 2.5 hours | 2.5 -> 2 1/2 hours | 2.5 -> 2.5 minutes
? Find the area of the triangle with sides 3 cm, 4 cm, 5 cm.
  6 -> 6 cm^2 | 6 -> 6 square cm | 6 -> 6 sq. cm | 6 -> 6 square units
? How many square feet of carpet are needed?
  12 -> 12 square feet | 12 -> 12 sq ft | 12 -> 12 ft^2 | 12 -> 12 square feet of carpet
? What is the value of x?
  7 -> 7 | 7 -> x = 7 | 7 -> The value of x is 7. | 7 -> $x=7$
? What is the measure of angle ABC, in degrees?
  60 -> 60 | 60 -> 60^\circ | 60 -> 60 degrees | 60 -> 60°
? How many kilograms of flour does she need?
  1.5 -> 1.5 kg | 1.5 -> 1500 g | 1.5 -> 1.5 kilograms of flour
? The car travels 60 km/h for 2 hours. What distance does it cover?
  120 -> 120 km | 120 -> 120 kilometers
? How many dozen eggs did he buy?
  9 -> 9 dozen | 9 -> 9 dozen eggs
? How many calories are in a serving?
  400 -> 400 calories
? How many more apples than pears are there?
  3 -> 3 more apples | 3 -> 3 | 3 -> 3 apples
? How much taller is Tom than Ann, in inches?
  15 -> 15 inches | 15 -> 15 in
? How many minutes longer did she wait?
  30 -> 30 minutes | 30 -> 30 min
?
  24 cm^2 -> 24 cm² | 24\text{ cm}^2 -> 24 sq cm | 5 m/s -> 5 m s^{-1} | 9.8 m/s^2 -> 9.8 m/s/s
  9.8 m/s^2 -> 9.8 meters per second squared | 9.8 m/s^2 -> 9.8 \text{ m/s}^2 | 1e3 -> 1000
  $1.5 million -> $1,500,000 | 3 hours -> 3h | 5:30 pm -> 17:30 | 5:30 PM -> 5:30pm | 3 km -> 3km | 20% -> 20 %
  20% -> 20 per cent | -5°C -> -5 °C | 100 km/h -> 100 kph | 100 km/h -> 100 km per hour | 100 km/h -> 100 km/hr
  10 dollars -> 10 USD | £10 -> 10 GBP | €10 -> 10 euros | 10 euros -> 10€ | 75 cents -> 75¢ | 75 cents -> $.75
  5'3" -> 5 feet 3 inches | 2 dozen -> 24 | 10 kg -> 10 kilos | 10 kg -> 10 kgs | 2 L -> 2 litres
  45 mins -> 45 minutes | 1 hr 30 mins -> 90 minutes | 3 weeks -> 21 days | x=3,y=4 -> x = 3 and y = 4
  x = 3, y = 4 -> x=3, y=4 | 3 and 4 -> 3, 4 | 10^{-3} -> 0.001 | 2^{10} -> 1024 | \frac{1}{2} -> \frac 1 2
  \frac{1}{2} -> \frac{1}2 | 3\frac{1}{2} -> 3 \frac12 | \$5.00 -> $5 | 90 degrees -> 90\degree | 5 cm -> 5.0 cm
  $10-$20 -> 10 to 20 dollars | 10-20% -> 10% to 20% | 10-20% -> 10 to 20 percent | between 5 and 10 -> 5-10
  12:00 -> noon | 5 apples and 3 pears -> 5 apples and 3 pears | $5 per hour -> 5 dollars an hour
  60 mph -> 60 miles/hr | 3.5 GB -> 3.5 gigabytes | 2 GHz -> 2000 MHz | 5 N -> 5 kg m/s^2 | 10 J -> 10 N m
  5\times 10^{-3} -> 0.005 | 5\cdot10^3 -> 5000 | 12 in -> 1 ft | 1 lb -> 16 oz | 1 mile -> 5280 feet
  8 hours -> 8 hours each | 0.75 -> 3/4 | 42 -> The final answer is $\boxed{42}$. | 42 -> The answer: 42 | Yes -> YES
  A -> Option A | A -> The answer is (A). | C -> C) | x^2 -> x**2 | \frac{3}{2}\text{ hours} -> 1.5 hours
  16\pi\text{ cm}^2 -> 16\pi | 16\pi -> 16 pi | 5\sqrt{3} -> 5\sqrt3 | \sqrt{3} -> \sqrt3 | 1.23\times10^5 -> 123000
  -\frac{1}{2} -> \frac{1}{-2} | 3/4 cup -> 0.75 cups | 1 1/2 cups -> 1.5 cups | 2,3 -> 2 and 3 | -2,3 -> x=-2, 3
  (-\infty,\infty) -> \mathbb{R} | (-\infty,\infty) -> all real numbers | 12th -> 12th | 2 hours -> 120min
  2 h -> 2 hr | Friday -> Friday. | \text{Friday} -> Friday | 1/3 -> \frac{1}{3}. | no solution -> No solution
  \emptyset -> no solution
? How old is he?
  25 -> 25 years old
? How many times did he win?
  5 -> 5 times
? How many times as many?
  3 -> 3 times
? How many days are in a week?
  7 -> 7 days
? How many miles did she drive in total over 3 days?
  150 -> 150 miles
? How many feet tall is he?
  6 -> 6 feet
? How tall is he, in feet?
  6 -> 6 feet tall
? What is the perimeter of the square, whose side is 1 foot, in inches?
  48 -> 48 inches
? What is the perimeter in inches... no, in feet?
  4 -> 4 feet
? How many teams are in the league?
  12 -> 12 teams
? How many more does he need?
  5 -> 5 more
? How many more marbles does he need?
  5 -> 5 more marbles
? What distance in meters did he run?
  1000 -> 1,000 m
? What is the average score?
  80 -> 80 points
? What is the average score, as a percent?
  80 -> 80%
? What is the area in square meters?
  20 -> 20 square meters
? What is the ratio?
  1:2 -> 1 to 2
? In how many ways can it be done?
  15 -> 15 ways | 15 -> There are 15 ways.
? After how many seconds does the ball hit the ground?
  3 -> 3 seconds | 3 -> t = 3 seconds | 6 -> 6\text{ seconds}
? What is the area of the triangle?
  10 -> 10\text{ square units} | 10 -> 10\text{ units}^2
? How many feet long is the ladder?
  13 -> 13\text{ feet}
? What is the area of the circle in square inches?
  16\pi -> 16\pi \text{ square inches}
"""


def _read(text: str) -> list[tuple[str, str, str]]:
    cases: list[tuple[str, str, str]] = []
    question, asking = "", False
    for line in text.strip().splitlines():
        if line.startswith("?"):
            question = f"{question} {line[1:].strip()}".strip() if asking else line[1:].strip()
        else:
            pairs = [pair.split(" -> ") for pair in line.strip().split(" | ")]
            cases += [(gold, answer.replace(r"\n", "\n"), question) for gold, answer in pairs]
        asking = line.startswith("?")
    return cases


FALSE, RIGHT = _read(FALSE_PAIRS), _read(RIGHT_PAIRS)
