"""The goods of the simulated shop: categories with English and Chinese words, and the items made from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any

import orjson

CURRENCY = "CNY"


@dataclass(frozen=True)
class Category:
    """A shelf: its names, what its goods are called in both languages, their makers and price range."""

    name: str
    zh: str
    adjectives: tuple[tuple[str, str], ...]
    nouns: tuple[tuple[str, str], ...]
    brands: tuple[str, ...]
    price: tuple[float, float]


def _words(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs of (English, Chinese) from "umbrella 雨伞, raincoat 雨衣"; the last word is the Chinese one."""
    pairs = (part.strip().rsplit(" ", 1) for part in text.split(","))
    return tuple((english, chinese) for english, chinese in pairs)


CATEGORIES = (
    Category(
        "coffee & breakfast",
        "咖啡早餐",
        _words("dark roast 深烘, single-origin 单品, organic 有机, cold-brew 冷萃, honey 蜂蜜, oat 燕麦"),
        _words("coffee beans 咖啡豆, drip bags 挂耳咖啡, granola 麦片, croissant 可颂, milk 牛奶, toast 吐司"),
        ("Dawn Mill", "晨光", "Kopi Lane"),
        (18, 120),
    ),
    Category(
        "snacks",
        "零食",
        _words("spicy 香辣, roasted 烘烤, seaweed 海苔, salted 盐焗, dark 黑, crispy 香脆"),
        _words("cashews 腰果, chocolate 巧克力, rice crackers 米饼, beef jerky 牛肉干, popcorn 爆米花, cookies 曲奇"),
        ("Little Fox", "三只鹿", "Crunchy"),
        (9, 60),
    ),
    Category(
        "tea & comfort",
        "茶饮暖心",
        _words("aged 陈年, jasmine 茉莉, ginger 姜, warm 暖, woollen 羊毛, lavender 薰衣草"),
        _words("pu'er tea 普洱茶, green tea 绿茶, hot chocolate 热可可, blanket 毛毯, candle 香薰蜡烛, teapot 茶壶"),
        ("Cloud Peak", "云雾", "Hearth"),
        (25, 260),
    ),
    Category(
        "rain gear",
        "雨具",
        _words("windproof 防风, folding 折叠, reflective 反光, transparent 透明, light 轻便, quick-dry 速干"),
        _words(
            "umbrella 雨伞, raincoat 雨衣, rain boots 雨靴, backpack cover 背包防雨罩, poncho 斗篷, shoe covers 鞋套"
        ),
        ("Drizzle", "天堂", "Nimbus"),
        (19, 320),
    ),
    Category(
        "outdoors",
        "户外",
        _words("ultralight 超轻, waterproof 防水, foldable 可折叠, titanium 钛合金, family 家庭, trail 越野"),
        _words("tent 帐篷, picnic mat 野餐垫, hiking shoes 登山鞋, water bottle 水壶, head lamp 头灯, sun hat 遮阳帽"),
        ("North Ridge", "远山", "Trailhead"),
        (39, 1200),
    ),
    Category(
        "fashion",
        "时尚服饰",
        _words("linen 亚麻, oversized 宽松, cashmere 羊绒, vintage 复古, silk 真丝, denim 牛仔"),
        _words("shirt 衬衫, dress 连衣裙, jacket 外套, scarf 围巾, trousers 长裤, tote bag 托特包"),
        ("Maison Lu", "素然", "Weave"),
        (79, 1500),
    ),
    Category(
        "electronics",
        "数码",
        _words("wireless 无线, noise-cancelling 降噪, mechanical 机械, portable 便携, 4K 高清, fast 快充"),
        _words("headphones 耳机, keyboard 键盘, monitor 显示器, charger 充电器, mouse 鼠标, speaker 音箱"),
        ("Volt", "极光", "Nodeworks"),
        (59, 3200),
    ),
    Category(
        "office",
        "办公",
        _words("ergonomic 人体工学, standing 站立式, recycled 再生纸, leather 皮面, magnetic 磁吸, adjustable 可调节"),
        _words("chair 椅, notebook 笔记本, desk lamp 台灯, pen set 钢笔套装, organiser 收纳盒, laptop stand 电脑支架"),
        ("Deskwell", "得心", "Paperhaus"),
        (15, 1600),
    ),
    Category(
        "games & film",
        "游戏影音",
        _words("retro 复古, co-op 合作, deluxe 豪华, limited 限定, mini 迷你, glow 夜光"),
        _words("board game 桌游, controller 手柄, projector 投影仪, puzzle 拼图, figure 手办, light strip 灯带"),
        ("Night Owl", "次元", "Pixelry"),
        (29, 2400),
    ),
    Category(
        "books",
        "图书",
        _words("illustrated 插图版, pocket 口袋本, annotated 注释版, new 新版, bilingual 双语, classic 经典"),
        _words("novel 小说, cookbook 食谱, atlas 地图集, poems 诗集, history 历史, science 科普"),
        ("Reed Press", "知行", "Inkwell"),
        (22, 180),
    ),
    Category(
        "garden & toys",
        "园艺玩具",
        _words("wooden 木制, ceramic 陶瓷, hanging 悬挂, magnetic 磁力, soft 柔软, solar 太阳能"),
        _words("building blocks 积木, planter 花盆, kite 风筝, garden shears 园艺剪, plush bear 毛绒熊, lantern 灯笼"),
        ("Sprout", "小满", "Acorn"),
        (15, 420),
    ),
    Category(
        "sport",
        "运动",
        _words("carbon 碳素, breathable 透气, non-slip 防滑, smart 智能, compression 压缩, running 跑步"),
        _words("yoga mat 瑜伽垫, racket 球拍, shorts 短裤, jump rope 跳绳, dumbbells 哑铃, cycling gloves 骑行手套"),
        ("Pace", "跃动", "Summit Lab"),
        (29, 900),
    ),
)


@dataclass(frozen=True)
class Item:
    """One article; `popularity` is its share of a scene-blind interest within its category."""

    item_id: str
    title: str
    lang: str
    category: int
    brand: str
    price: float
    in_stock: bool
    popularity: float

    def wire(self, ts_ms: int) -> tuple[bytes, bytes]:
        """(key, value) of the item for items.v1."""
        shelf = CATEGORIES[self.category]
        body: dict[str, Any] = {
            "item_id": self.item_id,
            "title": self.title,
            "category": shelf.name,
            "brand": self.brand,
            "price": self.price,
            "currency": CURRENCY,
            "image": f"https://shop.example/img/{self.item_id}.jpg",
            "url": f"https://shop.example/i/{self.item_id}",
            "tags": [shelf.zh, self.brand],
            "lang": self.lang,
            "in_stock": self.in_stock,
            "ts_ms": ts_ms,
        }
        return self.item_id.encode(), orjson.dumps(body)


@dataclass(frozen=True)
class Shelf:
    """The items of one category with the running sums of their popularity, ready for a weighted draw."""

    items: tuple[Item, ...]
    cumulative: tuple[float, ...]

    def draw(self, random: Random) -> Item:
        return random.choices(self.items, cum_weights=self.cumulative)[0]


def build(items: int, random: Random) -> tuple[Item, ...]:
    """A catalogue of `items` articles, spread evenly over the categories; the few first of each sell most."""
    return tuple(_item(number, random) for number in range(items))


def shelves(items: tuple[Item, ...]) -> tuple[Shelf, ...]:
    """The items by category; those out of stock are still looked at."""
    made = []
    for category in range(len(CATEGORIES)):
        own = tuple(item for item in items if item.category == category)
        made.append(Shelf(own, tuple(accumulate(item.popularity for item in own))))
    return tuple(made)


def _item(number: int, random: Random) -> Item:
    category = number % len(CATEGORIES)
    shelf = CATEGORIES[category]
    rank = number // len(CATEGORIES)
    adjective, noun = random.choice(shelf.adjectives), random.choice(shelf.nouns)
    brand = random.choice(shelf.brands)
    chinese = random.random() < 0.45
    english = f"{brand} {adjective[0]} {noun[0]}"
    low, high = shelf.price
    return Item(
        item_id=f"{category:02d}{rank:04d}",
        title=f"{brand} {adjective[1]}{noun[1]}" if chinese else english[0].upper() + english[1:],
        lang="zh" if chinese else "en",
        category=category,
        brand=brand,
        price=round(low * (high / low) ** random.random(), 2),
        in_stock=random.random() < 0.96,
        popularity=1.0 / (rank + 3),
    )
