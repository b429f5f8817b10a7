//! Many expressions over many rows: nothing panics, and evaluation is cheap.

use super::*;

/// A seeded random sequence (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}

#[test]
fn random_expressions_never_panic() {
    const WORDS: &str = "id n status volume_ul barcode at doc tags fixed f ok old.n new.tags op changed() ( ) ( ) , , + - * / % \
        = <> < <= || -> ->> #>> ? :: ::int ::text ::numeric(3,1) ::date ::interval ::int[] [1] 'a' '1' '{a,b}' '2026-01-01' E'\\x' $$ ' \" \
        1 2.5 1e400 -0 null true case when then else end and or not is in between like ilike escape any(tags) collate \"C\" \
        interval '1 day' date '2026-01-01' extract(year from at) date_trunc('day',at) round( left( substring( coalesce( hmac( \
        split_part( trim( at time zone 'UTC' as x -- é 日本 ; ~ @> distinct from \
        ~ '^[a-c]+$' ~* 'x|y' !~ '(' [1:2] [:n] tags||tags tags||barcode n||array[n] regexp_replace(barcode,'[0-9]+','','g') \
        substring(barcode from '[^a]') repeat(barcode,n) lpad(barcode,n) string_to_array(barcode,',') array_to_string(tags,'-') \
        jsonb_build_object('a',doc) to_jsonb(tags) make_interval(days=>n) interval'02:00' to_char(at,'YYYY') to_timestamp(f) \
        date_bin(interval'1hour',at,at) sha256(convert_to(barcode,'utf8')) translate( position('a'in barcode) \u{0} \u{1F980}";
    let words: Vec<&str> = WORDS.split(' ').filter(|word| !word.is_empty()).collect();
    let values = [
        "",
        "-",
        "?",
        "0",
        "-1",
        "x",
        "{",
        "[",
        "\"",
        "{}",
        "1e5",
        "NaN",
        "9223372036854775808",
        "é",
        "t",
        "\\x0",
        "-infinity",
    ];
    let seed = 7;
    let mut random = Random(seed);
    let scope = scope(true);
    let mut compiled = 0;
    for _ in 0..5_000 {
        let text: Vec<&str> = (0..=random.below(9)).map(|_| words[random.below(words.len())]).collect();
        let text = text.join(" ");
        let row: Vec<&str> = (0..COLUMNS.len()).map(|_| values[random.below(values.len())]).collect();
        let (new, old) = (message(&row), message(&ROW));
        let update = Operation::Update { old: Some(OldRow::Full(old.tuple())), new: new.tuple() };
        let row = Row::of(&update).unwrap();
        for field in Expression::parse_list(&text, &scope).unwrap_or_default() {
            compiled += 1;
            let mut out = b"before".to_vec();
            let outcome = field.expression.write_json(&row, &mut context(), &mut out);
            assert!(out.starts_with(b"before") && (outcome.is_ok() || out.len() == 6), "{text}");
        }
        if let Err(mistakes) = Expression::parse(&text, &scope) {
            assert!(!mistakes.to_string().is_empty());
        }
    }
    assert!(compiled > 50, "SEED={seed}: {compiled} compiled");
}

/// Prints the cost of a row. Run `cargo test --release --lib row_cost_is_printed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, which only an optimised build on a quiet machine can make"]
fn row_cost_is_printed() {
    const ROWS: u32 = 200_000;
    let scope = scope(true);
    let wanted =
        Expression::parse_condition("volume_ul > 0 and status in ('running', 'completed')", &scope).unwrap();
    let unwanted = Expression::parse_condition("status = 'empty'", &scope).unwrap();
    let list =
        "id, status, barcode, n, at, small, volume_ul * 1000 as volume_nl, coalesce(fixed, 'all') as well";
    let fields = Expression::parse_list(list, &scope).unwrap();
    let new = message(&ROW);
    let row = Row::of(&Operation::Insert { new: new.tuple() }).unwrap();
    let mut context = context();
    let mut out = Vec::new();
    let mut best = [std::time::Duration::MAX; 2];
    for _ in 0..20 {
        let start = std::time::Instant::now();
        for _ in 0..ROWS {
            assert_eq!(std::hint::black_box(&wanted).holds(&row, &mut context), Ok(Truth::True));
            out.clear();
            for field in std::hint::black_box(&fields) {
                field.expression.write_json(&row, &mut context, &mut out).unwrap();
            }
        }
        best[0] = best[0].min(start.elapsed() / ROWS);
        let start = std::time::Instant::now();
        for _ in 0..ROWS {
            assert_eq!(std::hint::black_box(&unwanted).holds(&row, &mut context), Ok(Truth::False));
        }
        best[1] = best[1].min(start.elapsed() / ROWS);
    }
    println!("a filter and eight fields, two computed: {:?} a row; an unwanted row: {:?}", best[0], best[1]);
}
