//! Templates of random expressions.

/// Result type, and templates for it, separated by `;;`. A hole names a type; `N` is one numeric type throughout, `A`
/// any one type throughout.
pub(super) const TEMPLATES: &[(&str, &str)] = &[
    (
        "bool",
        "{N} = {N} ;; {N} <> {N} ;; {N} < {N} ;; {N} >= {N} ;; {int4} = {numeric} ;; \
         {int8} > {float8} ;; {float4} < {float8} ;; {float4} = {int4} ;; {int2} <= {int8} ;; \
         {numeric} > {float4} ;; {text} = {text} ;; {varchar} = {text} ;; {bpchar} = {bpchar} ;; \
         {bpchar} = {text} ;; {varchar} <> {bpchar} ;; {bpchar} = {varchar} ;; m1 = {text} ;; \
         {text} < {text} collate \"C\" ;; {varchar} >= {text} collate \"C\" ;; \
         {bpchar} < {bpchar} collate \"C\" ;; {date} < {date} ;; {date} >= {timestamp} ;; \
         {timestamptz} > {date} ;; {timestamp} <> {timestamptz} ;; {time} < {time} ;; \
         {interval} > {interval} ;; {time} < {interval} ;; {uuid} = {uuid} ;; {uuid} < {uuid} ;; \
         {bytea} >= {bytea} ;; {mood} < {mood} ;; {mood} = 'ok' ;; {jsonb} = {jsonb} ;; \
         {jsonb} <> {jsonb} ;; {bool} = {bool} ;; {bool} and {bool} ;; {bool} or {bool} ;; \
         not {bool} ;; {bool} and {bool} or {bool} ;; {bool} is true ;; {bool} is not false ;; \
         {bool} is unknown ;; {A} is null ;; {A} is not null ;; {N} is distinct from {N} ;; \
         {text} is not distinct from {text} ;; {mood} is distinct from {mood} ;; \
         {int4} in ({int4}, {int4}, 5) ;; {int4} in (1, 2.5, 3000000000) ;; \
         {float4} in (0.1, 1.1) ;; {float4} in (1.1) ;; {text} not in ('a', {text}, 'b') ;; \
         {bpchar} in ('abc', 'x ') ;; {mood} in ('sad', 'glad') ;; \
         {varchar} in ('abc', {text}) ;; {date} in ('2026-10-01', {date}) ;; \
         {int2} not in (1, 7) ;; {N} between {N} and {N} ;; \
         {date} not between {date} and {date} ;; {timestamp} between {date} and {timestamp} ;; \
         {text} like {text} ;; {text} not like 'a%' ;; {bpchar} like 'abc%' ;; \
         {varchar} ilike {text} ;; {text} like '%!_%' escape '!' ;; {text} ilike '%B%' ;; \
         {text} like '\\' ;; {int4} = any ({int4[]}) ;; {text} <> any ({text[]}) ;; \
         'a' = any ({text[]}) ;; {int4} = any ('{1,2,3}') ;; {mood} = any (ea1) ;; \
         {int4} > any ({int4[]}) ;; {text}::bool ;; ({int4})::bool ;; {jsonb} ? 'a' ;; \
         {jsonb} ? {text} ;; ({jsonb} -> 'x')::bool ;; \
         case when {bool} then {bool} else {bool} end ;; coalesce({bool}, {bool}) ;; \
         {int4} + 1 > {int4} ;; {int4} = 1 is true ;; - {int4} < i1 * 2 + 1 ;; not {int4} = 1 ;; \
         {text} || 'x' like {text} || '%' ;; ({text})::text = {bpchar}::text ;; \
         greatest({bool}, {bool}) ;; nullif({bool}, {bool}) ;; ad1 is null ;; ad1 is not null ;; vec is null ;; vec[0] = 1 ;; \
         (aa1)[1] is null ;; aa1[{int4}] is not null ;; not (ad1 is null) ;; aa1 is null ;; \
         bx1 is not null ;; {numeric} = any (na1) ;; 'abc' = any (ca1) ;; {varchar} = any (va1) ;; \
         {bool} = any (ba1) ;; {date} <= any (da1) ;; {timestamptz} > any (za1) ;; \
         {float8} >= any (fa1) ;; m1 in ('abc', {text}) ;; m1 like {text} ;; m1 < 'b' ;; m1 = 'a23456789b123456789c123456789d123456789e123456789f123456789g1234' ;; \
         {int4} in ({int4} / {int4}, 5, 1) ;; {int8} in ({int4}, 3.0) ;; {text} in ({varchar}, 'a', {text}) ;; \
         {bool} in ({bool}, true) ;; {interval} in ({interval}, '1 day') ;; {jsonb} in ({jsonb}, '1.5') ;; \
         {uuid} in ({uuid}) ;; {numeric} in ({int4}, 0.50) ;; {timestamp} in ({date}, {timestamp}) ;; \
         {numeric} between {int4} and {float8} ;; {text} not ilike {varchar} ;; {bpchar} not like {text} ;; \
         {varchar} like {text} escape '' ;; {bpchar} is distinct from {text} ;; {jsonb} is distinct from {jsonb} ;; \
         {interval} is not distinct from {interval} ;; {timestamp} is distinct from {date} ;; \
         {float8} is distinct from {numeric} ;; {bool} is not unknown ;; {bool} is not true ;; {bool} is false ;; \
         {jsonb} -> {int4} is null ;; {A} is null and {bool} ;; {text} = {A}::text ;; \
         {bool} = {bool} and ({int4}, {text}) = ({int4}, {text}) ;; ({int4}, {int4}) < ({int4}, {int4}) ;; \
         ({int4}, {date}) >= ({int8}, {timestamp}) ;; \
         ({int4}, {text}) in ((1, 'a'), ({int4}, {text})) ;; ({bool}, {int4}) <> ({bool}, {int4}) ;; {int4} <> all ({int4[]}) ;; \
         {text} <> all ({text[]}) ;; \
         {int8} = any ({int4[]}) ;; {numeric} >= all ({int4[]}) ;; {timestamp} > any (da1) ;; {numeric} = any (fa1) ;; \
         {int4} = any (na1) ;; \
         {int4[]} && {int4[]} ;; {text[]} @> {text[]} ;; {int4[]} <@ {int4[]} ;; na1 && '{2.50,1}' ;; ea1 @> array[{mood}] ;; \
         {text[]} && array[{text}, 'a'] ;; \
         {jsonb} @> {jsonb} ;; {jsonb} <@ {jsonb} ;; {jsonb} @> '{\"a\": 1}' ;; {jsonb} ?| {text[]} ;; {jsonb} ?& {text[]} ;; \
         {jsonb} ?| array['a', {text}] ;; \
         {text} ~ {pattern} ;; {text} ~ {pattern} ;; {varchar} ~* {pattern} ;; {bpchar} !~ {pattern} ;; {text} !~* {pattern} ;; \
         m1 ~ {pattern} ;; {text} || 'b' ~ '^[a-c]+$' ;; \
         starts_with({text}, {text}) ;; isfinite({date}) ;; isfinite({timestamp}) ;; isfinite({interval}) ;; \
         {bpchar} <> all ('{abc,\"x \"}') ;; \
         greatest({text} collate \"C\", {text}) > 'b' ;; {date} <> all ('{2026-10-01,infinity}')",
    ),
    (
        "int2",
        "{int2} + {int2} ;; {int2} - {int2} ;; {int2} * {int2} ;; {int2} / {int2} ;; \
         {int2} % {int2} ;; - {int2} ;; abs({int2}) ;; ({int4})::int2 ;; ({float4})::int2 ;; \
         ({numeric})::smallint ;; {text}::int2 ;; mod({int2}, {int2}) ;; \
         coalesce({int2}, {int2}) ;; nullif({int2}, {int4}) ;; greatest({int2}, {int2}) ;; \
         {int2} + '1' ;; ({jsonb})::int2 ;; \
         {int2} & {int2} ;; {int2} | {int2} ;; {int2} # {int2} ;; ~ {int2} ;; {int2} << {int4} ;; {int2} >> {int2} ;; + {int2}",
    ),
    (
        "int4",
        "{int4} + {int4} ;; {int4} - {int2} ;; {int4} * {int4} ;; {int4} / {int4} ;; \
         {int4} % {int4} ;; - {int4} ;; - {int4} + {int4} * {int4} ;; abs({int4}) ;; \
         mod({int4}, {int2}) ;; ({int8})::int4 ;; ({numeric})::int ;; ({float8})::integer ;; \
         ({float4})::int ;; {text}::int ;; ({bool})::int ;; length({text}) ;; \
         char_length({varchar}) ;; length({bpchar}) ;; length({bytea}) ;; \
         ({jsonb} -> 'a')::int ;; ({jsonb})::int ;; cardinality({int4[]}) ;; \
         array_length({int4[]}, 1) ;; array_length({int4[]}, 2) ;; ({int4[]})[{int4}] ;; \
         ia1[1] ;; {date} - {date} ;; case when {bool} then {int4} else {int2} end ;; \
         case {int4} when 1 then {int4} when {int4} then 3 end ;; coalesce({int4}, {int2}, 0) ;; \
         nullif({int4}, {int8}) ;; nullif({int4}, 1) ;; {int4} + {date} - {date} ;; \
         greatest({int4}, {int2}, {int4}) ;; least({int4}, {int4}) ;; {int2} + {int4} ;; \
         {int4} / '2' ;; cast({text} as int) ;; {int4} - {int4} - {int4} ;; \
         {int4} / {int4} * {int4} ;; {int4} % {int4} + {int4} ;; (- {int4})::int2 + 1 ;; \
         cardinality(na1) ;; cardinality(aa1) ;; cardinality({text[]}) ;; array_length(va1, 1) ;; \
         array_length({int4[]}, {int4}) ;; ({int4[]})[{int4}] + 1 ;; character_length({text}) ;; length(m1) ;; \
         length({varchar}) ;; ({jsonb} ->> 'a')::int ;; {int4} * {int4} - {int4} ;; {int4} / ({int2} - {int4}) ;; \
         coalesce(p1, {int4}) ;; p1 * {int4} ;; nullif(p1, {int4}) ;; \
         strpos({text}, {text}) ;; position({text} in {text}) ;; octet_length({text}) ;; octet_length({bpchar}) ;; octet_length({bytea}) ;; \
         {int4} & {int4} ;; {int4} | {int2} ;; {int4} # {int4} ;; ~ {int4} ;; {int4} << {int4} ;; {int4} >> {int4} ;; {int4} & 7 ;; \
         jsonb_array_length({jsonb}) ;; json_array_length({json}) ;; (array[{int4}, {int4}])[1] ;; + {int4} ;; (ta1::int[])[1] ;; \
         jsonb_array_length({jsonb} -> 'b') ;; cardinality(array[]::int4[])",
    ),
    (
        "int8",
        "{int8} + {int4} ;; {int8} - {int8} ;; {int8} * {int2} ;; {int8} / {int4} ;; \
         {int4} % {int8} ;; - {int8} ;; abs({int8}) ;; ({numeric})::bigint ;; \
         ({float8})::int8 ;; ({int4})::bigint ;; {text}::bigint ;; coalesce({int8}, {int4}) ;; \
         case when {bool} then {int4} else {int8} end ;; greatest({int4}, {int8}) ;; \
         ({jsonb} ->> 'a')::int8 ;; mod({int8}, {int4}) ;; ({jsonb})::bigint ;; \
         nullif({int8}, {int2}) ;; {int8} + {int8} ;; {int8} * {int8} ;; {int8} / {int8} ;; \
         {int8} % {int8} ;; {int8} * {int4} - {int8} ;; (- {int8}) * {int8} ;; mod({int8}, {int8}) ;; \
         least({int8}, {int2}) ;; ({numeric} * {int4})::int8 ;; \
         {int8} & {int8} ;; {int8} | {int4} ;; {int8} # {int8} ;; ~ {int8} ;; {int8} << {int4} ;; {int8} >> {int4} ;; \
         ({int4[]}::bigint[])[1]",
    ),
    (
        "numeric",
        "{numeric} + {numeric} ;; {numeric} - {int4} ;; {numeric} * {numeric} ;; \
         {numeric} / {numeric} ;; {numeric} % {numeric} ;; {int4} / {numeric} ;; \
         {numeric} / {int8} ;; {int8} % {numeric} ;; - {numeric} ;; abs({numeric}) ;; \
         round({numeric}) ;; round({numeric}, {int4} % 30) ;; round({numeric}, -2) ;; \
         round({int4}, 1) ;; trunc({numeric}) ;; trunc({numeric}, 2) ;; ceil({numeric}) ;; \
         floor({numeric}) ;; sign({numeric}) ;; mod({numeric}, {int4}) ;; ({int8})::numeric ;; \
         ({float8})::numeric ;; ({float4})::numeric ;; {text}::numeric ;; \
         ({numeric})::numeric(8,2) ;; ({float8})::numeric(5) ;; ({jsonb})::numeric ;; \
         ({jsonb} -> 'a')::numeric(6,1) ;; extract(epoch from {timestamp}) ;; \
         extract(year from {date}) ;; extract(second from {timestamptz}) ;; \
         extract(dow from {date}) ;; extract(week from {date}) ;; \
         extract(isoyear from {timestamp}) ;; extract(decade from {date}) ;; \
         extract(century from {timestamp}) ;; extract(millennium from {date}) ;; \
         extract(doy from {timestamp}) ;; extract(isodow from {timestamptz}) ;; \
         extract(quarter from {date}) ;; extract(epoch from {date}) ;; \
         extract(epoch from {interval}) ;; extract(day from {interval}) ;; \
         extract(hour from {time}) ;; extract(milliseconds from {time}) ;; \
         extract(microseconds from {timestamp}) ;; extract(month from {interval}) ;; \
         extract(minute from {interval}) ;; extract(year from {interval}) ;; \
         case when {bool} then {numeric} else {int4} end ;; coalesce({numeric}, {int4}, 0.0) ;; \
         nullif({numeric}, {int4}) ;; greatest({numeric}, {int8}) ;; \
         least({numeric}, {numeric}) ;; {numeric} * {int4} + {numeric} / 3 ;; \
         {numeric} / 1000 ;; {numeric} - {numeric} - {numeric} ;; round({numeric}, {int4}) ;; \
         trunc({numeric}, {int4}) ;; round({numeric} * {int4}, 2) ;; round({numeric} / {numeric}, {int2}) ;; \
         round(n4 * n2, 2) ;; n2 / n3 ;; n4 + n5 ;; n4 * n4 ;; {numeric} / {numeric} * {numeric} ;; \
         na1[{int4}] ;; (na1)[1] + {numeric} ;; ({text})::numeric(6,3) ;; ({int8})::numeric(20,4) ;; \
         ({numeric})::numeric(4,4) ;; n3 ;; - n3 ;; abs(n4) ;; ceil({int4}::numeric / {int4}) ;; \
         {int8} * {numeric} ;; {int2} / {numeric} ;; {numeric} / {int2} - {int8} ;; round({int8}, {int2}) ;; \
         extract(day from {timestamp}) ;; extract(minute from {timestamp}) ;; extract(hour from {interval}) ;; \
         extract(milliseconds from {interval}) ;; extract(microseconds from {interval}) ;; \
         extract(second from {interval}) ;; extract(epoch from {time}) ;; extract(month from {date}) ;; \
         extract(day from {date}) ;; extract(epoch from {timestamptz}) ;; extract(year from {timestamptz}) ;; \
         mod({numeric}, {numeric}) ;; coalesce(n3, n3) ;; nullif(n2, {numeric}) ;; greatest(n2, n3, n4) ;; \
         div({numeric}, {numeric}) ;; div({int8}, {int4}) ;; sqrt({numeric}) ;; sqrt(n2) ;; sqrt(n5) ;; sqrt({int4}::numeric) ;; \
         + {numeric} ;; ({int4[]}::numeric[])[2] ;; \
         sqrt(abs({numeric})) ;; div(n5, n2)",
    ),
    (
        "float4",
        "{float4} + {float4} ;; {float4} - {float4} ;; {float4} * {float4} ;; \
         {float4} / {float4} ;; - {float4} ;; abs({float4}) ;; ({float8})::real ;; \
         ({numeric})::float4 ;; ({int4})::float4 ;; {text}::float4 ;; \
         coalesce({float4}, {int4}) ;; ({int8})::real ;; nullif({float4}, {float8}) ;; \
         ({jsonb})::float4",
    ),
    (
        "float8",
        "{float8} + {float8} ;; {float8} - {float4} ;; {float8} * {int4} ;; \
         {float8} / {float8} ;; {float4} + {int4} ;; {float4} * {numeric} ;; \
         {numeric} / {float8} ;; - {float8} ;; abs({float8}) ;; round({float8}) ;; \
         trunc({float8}) ;; ceil({float8}) ;; floor({float8}) ;; sign({float8}) ;; \
         round({int4}) ;; floor({int8}) ;; ceil({float4}) ;; ({numeric})::float8 ;; \
         ({float4})::float8 ;; ({int8})::float8 ;; {text}::float8 ;; \
         date_part('epoch', {timestamp}) ;; date_part('second', {timestamptz}) ;; \
         date_part('year', {date}) ;; date_part('milliseconds', {time}) ;; \
         date_part('epoch', {interval}) ;; date_part('hour', {timestamp}) ;; \
         case when {bool} then {int4} else {float8} end ;; coalesce({float8}, {numeric}) ;; \
         greatest({float8}, {float4}) ;; least({float8}, {float8}) ;; ({jsonb})::float8 ;; \
         nullif({float8}, {float8}) ;; \
         sqrt({float8}) ;; sqrt({int4}) ;; sqrt(abs({float8})) ;; + {float8} ;; (na1::float8[])[{int4}]",
    ),
    (
        "text",
        "{text} || {text} ;; {text} || {int4} ;; {bool} || {text} ;; {numeric} || {text} ;; \
         {bpchar} || {text} ;; {varchar} || {varchar} ;; {text} || {date} ;; \
         {text} || {float8} ;; {mood} || '' ;; {text} || 'x' || {int4} ;; {uuid} || {text} ;; \
         {interval} || {text} ;; {timestamptz} || '' ;; concat({A}, {text}, {bool}) ;; \
         concat_ws(',', {text}, {int4}, {bpchar}) ;; concat_ws({text}, {text}, {A}) ;; \
         lower({text}) ;; upper({text}) ;; lower({bpchar}) ;; btrim({text}) ;; \
         trim(both 'a' from {text}) ;; trim({text}) ;; ltrim({text}, {text}) ;; \
         rtrim({text}, 'bc') ;; trim(leading 'x ' from {text}) ;; left({text}, {int4} % 5) ;; \
         right({text}, {int4} % 5) ;; left({bpchar}, 2) ;; \
         substring({text} from {int4} % 4 for {int4} % 4) ;; substring({text}, {int4} % 4) ;; \
         substr({text}, 2, 1) ;; substring({text} for 2) ;; replace({text}, {text}, {text}) ;; \
         replace({text}, 'a', 'xy') ;; split_part({text}, ',', {int4} % 4) ;; \
         split_part({text}, {text}, 1) ;; ({A})::text ;; cast({A} as text) ;; \
         ({varchar})::text ;; ({bpchar})::text ;; ({jsonb})::text ;; ({float4})::text ;; \
         pt::text ;; concat(net) ;; {jsonb} ->> 'a' ;; {jsonb} ->> {int4} ;; {json} ->> 'a' ;; \
         {json} ->> 0 ;; {jsonb} #>> '{b,1,c}' ;; {json} #>> '{a,1}' ;; \
         {jsonb} -> 'b' -> 1 ->> 'c' ;; {jsonb} ->> {text} ;; md5({text}) ;; md5({bytea}) ;; \
         encode({bytea}, 'hex') ;; encode({bytea}, 'base64') ;; ({text[]})[2] ;; ta1[1] ;; \
         case when {bool} then {text} else 'x' end ;; \
         case {text} when 'a' then 'A' else {varchar} end ;; \
         coalesce({text}, {varchar}, 'none') ;; coalesce({varchar}, {text}) ;; \
         nullif({text}, {text}) ;; nullif({text}, 'abc') ;; ({text}::int)::text ;; 'lit' ;; \
         coalesce({bpchar}, {text}) ;; left({text}, {int4}) ;; right({text}, {int4}) ;; \
         substring({text}, {int4}, {int4}) ;; substr({text}, {int4}) ;; split_part({text}, ',', {int4}) ;; \
         split_part({text}, {text}, {int4}) ;; substring({text} from {int4}) ;; {jsonb} ->> ({int4} % 3) ;; \
         {json} ->> {int4} ;; {text} || {numeric} ;; {text} || {time} ;; {text} || {timestamp} ;; \
         {int8} || {text} ;; {float4} || {text} ;; m1 || {text} ;; lower(m1) ;; upper({varchar}) ;; m1::text ;; \
         coalesce(m1, {text}) ;; coalesce(m1, 'x') || '' ;; concat(ad1, aa1, bx1) ;; concat(na1, da1, za1) ;; \
         na1::text ;; ad1::text ;; vec::text ;; aa1::text ;; bx1::text ;; (aa1)[1]::text ;; concat((aa1)[2]) ;; va1[1] ;; ca1[1] ;; \
         ltrim({text}) ;; rtrim({bpchar}) ;; trim(trailing {text} from {text}) ;; btrim({text}, {text}) ;; \
         concat_ws('-', {A}, {A}) ;; replace({text}, {text}, '') ;; upper({text}) ;; {jsonb} #>> '{b,0}' ;; \
         {jsonb} #>> '{}' ;; {json} #>> '{0}' ;; {jsonb} #>> '{-1,a}' ;; {bool}::text ;; {interval}::text ;; \
         {time}::text ;; {date}::text ;; {timestamp}::text ;; {timestamptz}::text ;; {uuid}::text ;; {bytea}::text ;; \
         {mood}::text ;; {float8}::text ;; {numeric}::text ;; ({text})::varchar(2) || {text} ;; \
         encode(decode({text}, 'base64'), 'hex') ;; encode(decode({text}, 'hex'), 'base64') ;;\
         left({text}, -2147483648) ;; right({text}, -2147483648) ;; substring({text}, -2147483648, 2147483647) ;; \
         substring({text}, 2147483647, 2147483647) ;; split_part({text}, ',', -2147483648) ;; \
         repeat({text}, {int4} % 9) ;; repeat({text}, {int4}) ;; lpad({text}, {int4} % 9, {text}) ;; rpad({text}, {int4} % 9, {text}) ;; \
         lpad({int4}::text, 8, '0') ;; \
         lpad({text}, 5) ;; rpad({text}, {int4} % 7) ;; reverse({text}) ;; translate({text}, {text}, {text}) ;; \
         translate({text}, 'abc ', 'xy') ;; to_hex({int4}) ;; to_hex({int8}) ;; \
         array_to_string({int4[]}, {text}) ;; array_to_string({text[]}, ', ', 'none') ;; array_to_string(ea1, {text}, {text}) ;; \
         array_to_string(da1, ',') ;; array_to_string(array[{A}, {A}], '; ') ;; \
         jsonb_typeof({jsonb}) ;; json_typeof({json}) ;; encode(sha256({bytea}), 'hex') ;; \
         encode(sha512(convert_to({text}, 'UTF8')), 'base64') ;; (string_to_array({text}, ','))[{int4} % 3] ;; \
         to_char({timestamp}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') ;; to_char({timestamptz}, 'YYYYMMDD HH12:MI Q IYYY-IW-ID DDD MS') ;; \
         to_char({date}, 'DD/MM/YYYY') ;; \
         substring({text} from {sequence}) ;; substring({bpchar}, {sequence}) ;; regexp_replace({text}, {sequence}, 'x', 'g') ;; \
         regexp_replace({text}, {sequence}, '') ;; regexp_replace({varchar}, {sequence}, '<>', 'gi') ;; \
         regexp_replace({bpchar}, '[^a-z]', '', 'g') ;; \
         greatest({text} collate \"C\", {text}) ;; least({text}, {bpchar} collate \"C\", 'm') ;; ({text})::name || {text} ;; \
         ({jsonb} || {jsonb})::text ;; jsonb_build_object('a', {A}, {text}, {A})::text ;; \
         json_typeof({json} #> '{a}') ;; {json} #>> '{a,b}' ;; {json} #>> '{1,-1}' ;; {json} #>> '{-1,a}' ;; {json} #>> '{a,-1,b}' ;; \
         ({int4[]}::text[])::text ;; (na1::int[])::text ;; (da1::timestamptz[])::text ;; (ba1::text[])::text",
    ),
    (
        "varchar",
        "({text})::varchar ;; ({text})::varchar(3) ;; ({int4})::varchar(2) ;; \
         coalesce({varchar}, {varchar}) ;; case when {bool} then {varchar} end ;; \
         nullif({varchar}, {varchar}) ;; ({bpchar})::varchar(4)",
    ),
    (
        "bpchar",
        "({text})::char(4) ;; ({text})::bpchar ;; ({varchar})::char ;; \
         coalesce({bpchar}, 'x') ;; ({int4})::char(3) ;; \
         case when {bool} then {bpchar} else 'ab  ' end ;; nullif({bpchar}, 'abc')",
    ),
    (
        "date",
        "{date} + {int4} % 1000 ;; {date} - {int2} % 100 ;; ({timestamp})::date ;; \
         ({timestamptz})::date ;; coalesce({date}, {date}) ;; greatest({date}, {date}) ;; \
         nullif({date}, {timestamp}) ;; case when {bool} then {date} end ;; {date} + {int4} ;; \
         {date} - {int4} ;; {int4} + {date} ;; da1[{int4}] ;; least({date}, {date}) ;; {text}::date ;; \
         make_date({int4} % 3000, {int4} % 14, {int4} % 33) ;; make_date({int4}, 2, 29)",
    ),
    (
        "time",
        "{time} + {interval} ;; {time} - {interval} ;; ({timestamp})::time ;; \
         ({interval})::time ;; coalesce({time}, {time}) ;; least({time}, {time}) ;; \
         {interval} + {time} ;; ({timestamptz})::time ;; nullif({time}, {time}) ;; {text}::time ;; \
         make_time({int4} % 25, {int4} % 61, {float8}) ;; make_time({int2}, {int4}, 59.9999999)",
    ),
    (
        "timestamp",
        "{timestamp} + {interval} ;; {timestamp} - {interval} ;; {date} + {interval} ;; \
         {interval} + {date} ;; {time} + {date} ;; {interval} + {timestamp} ;; \
         {date} - {interval} ;; {date} + {time} ;; ({date})::timestamp ;; \
         ({timestamptz})::timestamp ;; {timestamptz} at time zone 'UTC' ;; {timestamptz} at time zone interval '02:30' ;; \
         {date} at time zone {interval} ;; {timestamptz} at time zone interval '-1 day' ;; timezone({interval}, {timestamptz}) ;; \
         date_trunc('month', {timestamp}) ;; date_trunc('week', {timestamp}) ;; \
         date_trunc('century', {timestamp}) ;; date_trunc('hour', {timestamp}) ;; \
         date_trunc('milliseconds', {timestamp}) ;; date_trunc('decade', {timestamp}) ;; \
         date_trunc('quarter', {timestamp}) ;; date_trunc('millennium', {timestamp}) ;; \
         coalesce({timestamp}, {date}) ;; greatest({timestamp}, {timestamp}) ;; \
         case when {bool} then {date} else {timestamp} end ;; date_trunc('year', {timestamp}) ;; \
         {timestamp} + {time} ;; {timestamp} - {time} ;; {date} - {time} ;; {time} + {timestamp} ;; \
         make_timestamp({int4} % 9999, {int4} % 13, {int4} % 32, {int4} % 25, {int4} % 60, {float8}) ;; \
         date_bin({interval}, {timestamp}, {timestamp}) ;; date_bin('15 minutes', {timestamp}, '2001-01-01')",
    ),
    (
        "timestamptz",
        "{timestamptz} + {interval} ;; {timestamptz} - {interval} ;; ({date})::timestamptz ;; \
         ({timestamp})::timestamptz ;; {timestamp} at time zone 'utc' ;; {timestamp} at time zone interval '-02:30:00.9' ;; {timestamp} at time zone ({interval}) ;; \
         date_trunc('day', {timestamptz}) ;; date_trunc('month', {date}) ;; \
         {interval} + {timestamptz} ;; coalesce({timestamptz}, {timestamp}) ;; \
         greatest({timestamptz}, {date}) ;; least({timestamptz}, {timestamptz}) ;; \
         date_trunc('second', {timestamptz}) ;; za1[1] ;; date_trunc('week', {timestamptz}) ;; \
         date_trunc('century', {timestamptz}) ;; date_trunc('decade', {date}) ;; date_trunc('microseconds', {timestamptz}) ;; \
         {date} at time zone 'UTC' at time zone 'UTC' ;; nullif({timestamptz}, {date}) ;; {text}::timestamptz ;; \
         {timestamptz} + {time} ;; {timestamptz} - {time} ;; {time} + {timestamptz} ;; to_timestamp({float8}) ;; to_timestamp({numeric}) ;; \
         to_timestamp({int8}) ;; \
         date_bin({interval}, {timestamptz}, {timestamptz}) ;; date_trunc('week', {timestamptz}, 'UTC') ;; \
         date_trunc('day', {timestamp}, 'utc')",
    ),
    (
        "interval",
        "{interval} + {interval} ;; {interval} - {interval} ;; - {interval} ;; \
         {timestamp} - {timestamp} ;; {timestamptz} - {timestamptz} ;; {timestamp} - {date} ;; \
         {time} - {time} ;; ({time})::interval ;; coalesce({interval}, {interval}) ;; \
         greatest({interval}, {interval}) ;; {timestamptz} - {date} ;; \
         nullif({interval}, {interval}) ;; {date} - {timestamp} ;; {timestamp} - {timestamptz} ;; \
         {interval} + {interval} - {interval} ;; least({interval}, {time}) ;; - {interval} + {interval} ;; \
         {interval} * {float8} ;; {interval} * {int4} ;; {numeric} * {interval} ;; {interval} / {float8} ;; {interval} / {int4} ;; \
         {interval} * 0.1 ;; {int4} * interval '1 day' ;; \
         age({timestamp}, {timestamp}) ;; age({timestamptz}, {timestamptz}) ;; age({date}, {date}) ;; justify_hours({interval}) ;; \
         justify_days({interval}) ;; justify_interval({interval}) ;; \
         make_interval({int4} % 100, {int4} % 100, {int2}, {int4}, {int4}, {int4}, {float8}) ;; \
         make_interval(days => {int4}, mins => {int2}) ;; make_interval(secs => {float8}) ;; \
         date_trunc('hour', {interval}) ;; date_trunc('quarter', {interval}) ;; date_trunc('decade', {interval}) ;; \
         date_trunc('milliseconds', {interval}) ;; date_trunc('day', {interval})",
    ),
    (
        "uuid",
        "coalesce({uuid}, {uuid}) ;; nullif({uuid}, {uuid}) ;; least({uuid}, {uuid}) ;; \
         {text}::uuid ;; (({uuid})::text)::uuid",
    ),
    (
        "json",
        "{json} -> 'a' ;; {json} -> 0 ;; {json} #> '{a,1}' ;; ({jsonb})::json ;; {json} -> -1 ;; \
         {json} #> '{a,b}' ;; {json} #> '{a,-1}' ;; {json} #> '{1,-1}'",
    ),
    (
        "jsonb",
        "{jsonb} -> 'a' ;; {jsonb} -> {int4} % 3 ;; {jsonb} #> '{b,1}' ;; ({json})::jsonb ;; \
         coalesce({jsonb}, {jsonb}) ;; case when {bool} then {jsonb} end ;; {jsonb} -> {text} ;; \
         nullif({jsonb}, {jsonb}) ;; {text}::jsonb ;; \
         {jsonb} || {jsonb} ;; {jsonb} || '{\"z\": [1]}' ;; {jsonb} - 'a' ;; {jsonb} - {text} ;; {jsonb} - {int4} ;; {jsonb} - {text[]} ;; \
         {jsonb} #- '{a}' ;; {jsonb} #- '{b,1,c}' ;; {jsonb} #- {text[]} ;; \
         to_jsonb({A}) ;; to_jsonb({N}) ;; jsonb_build_object('a', {A}) ;; jsonb_build_object({text}, {N}, 'b', {A}, 'b', {bool}) ;; \
         jsonb_build_array({A}, {N}, null, 'x') ;; to_jsonb(na1) ;; to_jsonb(ea1) ;; to_jsonb(da1) ;; to_jsonb(za1) ;; \
         to_jsonb(ba1) ;; to_jsonb(fa1) ;; jsonb_build_object('v', {timestamptz}, 'w', {float4})",
    ),
    (
        "bytea",
        "coalesce({bytea}, {bytea}) ;; nullif({bytea}, {bytea}) ;; decode(md5({text}), 'hex') ;; \
         decode(encode({bytea}, 'base64'), 'base64') ;; greatest({bytea}, {bytea}) ;; \
         convert_to({text}, 'UTF8') ;; sha256({bytea}) ;; sha224(convert_to({text}, 'utf-8')) ;; decode({text}, 'base64') ;; \
         decode({text}, 'hex')",
    ),
    (
        "mood",
        "coalesce({mood}, 'ok') ;; case when {bool} then {mood} else 'glad' end ;; \
         greatest({mood}, {mood}) ;; nullif({mood}, 'sad') ;; {text}::mood ;; (ea1)[1] ;; \
         least({mood}, {mood})",
    ),
    (
        "int4[]",
        "coalesce({int4[]}, {int4[]}) ;; case when {bool} then {int4[]} end ;; \
         ({int4[]})[{int4}:{int4}] ;; ({int4[]})[:2] ;; ia1[2:] ;; ia1[:] ;; ({int4[]})[{int4} % 3:{int4} % 4] ;; \
         {int4[]} || {int4[]} ;; {int4[]} || {int4} ;; {int4} || {int4[]} ;; ia1 || ia1 ;; {int2} || ia1 || {int2} ;; \
         array[{int4}, {int4}] ;; array[{int4}] ;; {text[]}::int4[] ;; (na1)::int4[]",
    ),
    (
        "text[]",
        "coalesce({text[]}, {text[]}) ;; case when {bool} then {text[]} else '{}' end ;; \
         array[{text}, {text}] ;; string_to_array({text}, {text}) ;; string_to_array({text}, ',', {text}) ;; \
         ({text[]})[{int4} % 3:2] ;; {text[]} || {text[]} ;; {text[]} || {text} ;; ({varchar})::text || {text[]} ;; {bpchar}::text || ta1 ;; \
         string_to_array({text}, null) ;; {int4[]}::text[] ;; ea1::text[] ;; (da1)::text[] ;; array['a', {text}, null]",
    ),
];
