//! The functions that rules may call, with the types of their overloads: CEL's standard ones, and the libraries of
//! Kubernetes 1.36. What is not here is refused by name.

use std::{collections::BTreeMap, sync::LazyLock};

use super::value_type::Type;

/// A function, and all that it may be applied to.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) overloads: Vec<Overload>,
}

/// One signature of a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) id: &'static str,
    /// Called as `target.function(...)`; the target is the first argument.
    pub(super) is_method: bool,
    pub(super) arguments: Vec<Type>,
    pub(super) result: Type,
}

/// One line for each overload: function, `.` if it is a method, overload, arguments, result. Single capitals are type
/// parameters. The order of a function's overloads decides on the type of a call that several fit.
const LINES: &str = "
_?_:_ conditional(bool, A, A) A
_&&_ logical_and(bool, bool) bool
_||_ logical_or(bool, bool) bool
!_ logical_not(bool) bool
@not_strictly_false not_strictly_false(bool) bool
_==_ equals(A, A) bool
_!=_ not_equals(A, A) bool
_+_ add_bytes(bytes, bytes) bytes
_+_ add_double(double, double) double
_+_ add_duration_duration(duration, duration) duration
_+_ add_duration_timestamp(duration, timestamp) timestamp
_+_ add_timestamp_duration(timestamp, duration) timestamp
_+_ add_int64(int, int) int
_+_ add_list(list(A), list(A)) list(A)
_+_ add_string(string, string) string
_+_ add_uint64(uint, uint) uint
_/_ divide_double(double, double) double
_/_ divide_int64(int, int) int
_/_ divide_uint64(uint, uint) uint
_%_ modulo_int64(int, int) int
_%_ modulo_uint64(uint, uint) uint
_*_ multiply_double(double, double) double
_*_ multiply_int64(int, int) int
_*_ multiply_uint64(uint, uint) uint
-_ negate_double(double) double
-_ negate_int64(int) int
_-_ subtract_double(double, double) double
_-_ subtract_duration_duration(duration, duration) duration
_-_ subtract_int64(int, int) int
_-_ subtract_timestamp_duration(timestamp, duration) timestamp
_-_ subtract_timestamp_timestamp(timestamp, timestamp) duration
_-_ subtract_uint64(uint, uint) uint
_[_] index_list(list(A), int) A
_[_] index_map(map(A, B), A) B
_[_] optional_list_index_int(optional(list(V)), int) optional(V)
_[_] optional_map_index_value(optional(map(K, V)), K) optional(V)
_[?_] list_optindex_optional_int(list(V), int) optional(V)
_[?_] optional_list_optindex_optional_int(optional(list(V)), int) optional(V)
_[?_] map_optindex_optional_value(map(K, V), K) optional(V)
_[?_] optional_map_optindex_optional_value(optional(map(K, V)), K) optional(V)
@in in_list(A, list(A)) bool
@in in_map(A, map(A, B)) bool
size size_bytes(bytes) int
size .bytes_size(bytes) int
size size_list(list(A)) int
size .list_size(list(A)) int
size size_map(map(A, B)) int
size .map_size(map(A, B)) int
size size_string(string) int
size .string_size(string) int
type type(A) type(A)
bool bool_to_bool(bool) bool
bool string_to_bool(string) bool
bytes bytes_to_bytes(bytes) bytes
bytes string_to_bytes(string) bytes
double double_to_double(double) double
double int64_to_double(int) double
double string_to_double(string) double
double uint64_to_double(uint) double
duration duration_to_duration(duration) duration
duration string_to_duration(string) duration
dyn to_dyn(A) dyn
int int64_to_int64(int) int
int double_to_int64(double) int
int duration_to_int64(duration) int
int string_to_int64(string) int
int timestamp_to_int64(timestamp) int
int uint64_to_int64(uint) int
string string_to_string(string) string
string bool_to_string(bool) string
string bytes_to_string(bytes) string
string double_to_string(double) string
string duration_to_string(duration) string
string int64_to_string(int) string
string timestamp_to_string(timestamp) string
string uint64_to_string(uint) string
string ip_to_string(net.IP) string
string cidr_to_string(net.CIDR) string
timestamp timestamp_to_timestamp(timestamp) timestamp
timestamp int64_to_timestamp(int) timestamp
timestamp string_to_timestamp(string) timestamp
uint uint64_to_uint64(uint) uint
uint double_to_uint64(double) uint
uint int64_to_uint64(int) uint
uint string_to_uint64(string) uint
contains .contains_string(string, string) bool
endsWith .ends_with_string(string, string) bool
startsWith .starts_with_string(string, string) bool
matches matches(string, string) bool
matches .matches_string(string, string) bool
getFullYear .timestamp_to_year(timestamp) int
getFullYear .timestamp_to_year_with_tz(timestamp, string) int
getMonth .timestamp_to_month(timestamp) int
getMonth .timestamp_to_month_with_tz(timestamp, string) int
getDayOfYear .timestamp_to_day_of_year(timestamp) int
getDayOfYear .timestamp_to_day_of_year_with_tz(timestamp, string) int
getDayOfMonth .timestamp_to_day_of_month(timestamp) int
getDayOfMonth .timestamp_to_day_of_month_with_tz(timestamp, string) int
getDate .timestamp_to_day_of_month_1_based(timestamp) int
getDate .timestamp_to_day_of_month_1_based_with_tz(timestamp, string) int
getDayOfWeek .timestamp_to_day_of_week(timestamp) int
getDayOfWeek .timestamp_to_day_of_week_with_tz(timestamp, string) int
getHours .timestamp_to_hours(timestamp) int
getHours .timestamp_to_hours_with_tz(timestamp, string) int
getHours .duration_to_hours(duration) int
getMinutes .timestamp_to_minutes(timestamp) int
getMinutes .timestamp_to_minutes_with_tz(timestamp, string) int
getMinutes .duration_to_minutes(duration) int
getSeconds .timestamp_to_seconds(timestamp) int
getSeconds .timestamp_to_seconds_tz(timestamp, string) int
getSeconds .duration_to_seconds(duration) int
getMilliseconds .timestamp_to_milliseconds(timestamp) int
getMilliseconds .timestamp_to_milliseconds_with_tz(timestamp, string) int
getMilliseconds .duration_to_milliseconds(duration) int
charAt .string_char_at_int(string, int) string
indexOf .string_index_of_string(string, string) int
indexOf .string_index_of_string_int(string, string, int) int
indexOf .list_a_index_of_int(list(A), A) int
lastIndexOf .string_last_index_of_string(string, string) int
lastIndexOf .string_last_index_of_string_int(string, string, int) int
lastIndexOf .list_a_last_index_of_int(list(A), A) int
lowerAscii .string_lower_ascii(string) string
upperAscii .string_upper_ascii(string) string
replace .string_replace_string_string(string, string, string) string
replace .string_replace_string_string_int(string, string, string, int) string
split .string_split_string(string, string) list(string)
split .string_split_string_int(string, string, int) list(string)
substring .string_substring_int(string, int) string
substring .string_substring_int_int(string, int, int) string
trim .string_trim(string) string
join .list_join(list(string)) string
join .list_join_string(list(string), string) string
format .string_format(string, list(dyn)) string
strings.quote strings_quote(string) string
find .string_find_string(string, string) string
findAll .string_find_all_string(string, string) list(string)
findAll .string_find_all_string_int(string, string, int) list(string)
isSorted .list_#_is_sorted_bool(list(#)) bool
max .list_#_max_#(list(#)) #
min .list_#_min_#(list(#)) #
sum .list_int_sum_int(list(int)) int
sum .list_uint_sum_uint(list(uint)) uint
sum .list_double_sum_double(list(double)) double
sum .list_duration_sum_duration(list(duration)) duration
slice .list_slice(list(T), int, int) list(T)
flatten .list_flatten(list(list(T))) list(T)
flatten .list_flatten_int(list(dyn), int) list(dyn)
sort .list_#_sort(list(#)) list(#)
@sortByAssociatedKeys .list_#_sortByAssociatedKeys(list(T), list(#)) list(T)
lists.range lists_range(int) list(int)
reverse .list_reverse(list(T)) list(T)
distinct .list_distinct(list(T)) list(T)
first .list_first(list(V)) optional(V)
last .list_last(list(V)) optional(V)
sets.contains list_sets_contains_list(list(T), list(T)) bool
sets.equivalent list_sets_equivalent_list(list(T), list(T)) bool
sets.intersects list_sets_intersects_list(list(T), list(T)) bool
cel.@mapInsert cel_@mapInsert_map_key_value(map(K, V), K, V) map(K, V)
cel.@mapInsert cel_@mapInsert_map_map(map(K, V), map(K, V)) map(K, V)
optional.of optional_of(V) optional(V)
optional.ofNonZeroValue optional_ofNonZeroValue(V) optional(V)
optional.none optional_none() optional(V)
optional.unwrap optional_unwrap(list(optional(V))) list(V)
unwrapOpt .optional_unwrapOpt(list(optional(V))) list(V)
value .optional_value(optional(V)) V
hasValue .optional_hasValue(optional(V)) bool
or .optional_or_optional(optional(V), optional(V)) optional(V)
orValue .optional_orValue_value(optional(V), V) V
url string_to_url(string) kubernetes.URL
isURL is_url_string(string) bool
getScheme .url_get_scheme(kubernetes.URL) string
getHost .url_get_host(kubernetes.URL) string
getHostname .url_get_hostname(kubernetes.URL) string
getPort .url_get_port(kubernetes.URL) string
getEscapedPath .url_get_escaped_path(kubernetes.URL) string
getQuery .url_get_query(kubernetes.URL) map(string, list(string))
ip string_to_ip(string) net.IP
ip .cidr_ip(net.CIDR) net.IP
isIP is_ip(string) bool
ip.isCanonical ip_is_canonical(string) bool
family .ip_family(net.IP) int
isUnspecified .ip_is_unspecified(net.IP) bool
isLoopback .ip_is_loopback(net.IP) bool
isLinkLocalMulticast .ip_is_link_local_multicast(net.IP) bool
isLinkLocalUnicast .ip_is_link_local_unicast(net.IP) bool
isGlobalUnicast .ip_is_global_unicast(net.IP) bool
cidr string_to_cidr(string) net.CIDR
isCIDR is_cidr(string) bool
containsIP .cidr_contains_ip_string(net.CIDR, string) bool
containsIP .cidr_contains_ip_ip(net.CIDR, net.IP) bool
containsCIDR .cidr_contains_cidr_string(net.CIDR, string) bool
containsCIDR .cidr_contains_cidr(net.CIDR, net.CIDR) bool
prefixLength .cidr_prefix_length(net.CIDR) int
masked .cidr_masked(net.CIDR) net.CIDR
quantity string_to_quantity(string) kubernetes.Quantity
isQuantity is_quantity_string(string) bool
sign quantity_sign(kubernetes.Quantity) int
isGreaterThan .quantity_is_greater_than(kubernetes.Quantity, kubernetes.Quantity) bool
isGreaterThan .semver_is_greater_than(kubernetes.Semver, kubernetes.Semver) bool
isLessThan .quantity_is_less_than(kubernetes.Quantity, kubernetes.Quantity) bool
isLessThan .semver_is_less_than(kubernetes.Semver, kubernetes.Semver) bool
compareTo .quantity_compare_to(kubernetes.Quantity, kubernetes.Quantity) int
compareTo .semver_compare_to(kubernetes.Semver, kubernetes.Semver) int
asApproximateFloat .quantity_get_float(kubernetes.Quantity) double
asInteger .quantity_get_int(kubernetes.Quantity) int
isInteger .quantity_is_integer(kubernetes.Quantity) bool
add .quantity_add(kubernetes.Quantity, kubernetes.Quantity) kubernetes.Quantity
add .quantity_add_int(kubernetes.Quantity, int) kubernetes.Quantity
sub .quantity_sub(kubernetes.Quantity, kubernetes.Quantity) kubernetes.Quantity
sub .quantity_sub_int(kubernetes.Quantity, int) kubernetes.Quantity
semver string_to_semver(string) kubernetes.Semver
semver string_bool_to_semver(string, bool) kubernetes.Semver
isSemver is_semver_string(string) bool
isSemver is_semver_string_bool(string, bool) bool
major .semver_major(kubernetes.Semver) int
minor .semver_minor(kubernetes.Semver) int
patch .semver_patch(kubernetes.Semver) int
format.named format-named(string) optional(kubernetes.NamedFormat)
validate .format-validate(kubernetes.NamedFormat, string) optional(list(string))
";

/// The comparison operators, and how their overloads start.
const COMPARISONS: [(&str, &str); 4] =
    [("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals")];

/// What they compare, and how the overload ends.
const COMPARED: [(&str, &str, &str); 14] = [
    ("bool", "bool", "bool"),
    ("int", "int", "int64"),
    ("int", "double", "int64_double"),
    ("int", "uint", "int64_uint64"),
    ("uint", "uint", "uint64"),
    ("uint", "double", "uint64_double"),
    ("uint", "int", "uint64_int64"),
    ("double", "double", "double"),
    ("double", "int", "double_int64"),
    ("double", "uint", "double_uint64"),
    ("string", "string", "string"),
    ("bytes", "bytes", "bytes"),
    ("timestamp", "timestamp", "timestamp"),
    ("duration", "duration", "duration"),
];

/// Types that a `#` stands for, each in turn.
const COMPARABLE: [&str; 8] =
    ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];

/// Names of formats, each of which is a function in `format.`.
pub(super) const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

static FUNCTIONS: LazyLock<BTreeMap<&'static str, Function>> = LazyLock::new(read);

/// The function of this name.
pub(super) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name.strip_prefix('.').unwrap_or(name))
}

/// The type of this name, where it stands for itself: `type(self.port) == int`.
pub(super) fn type_name(name: &str) -> Option<&'static str> {
    const NAMES: [&str; 16] = [
        "bool",
        "bytes",
        "double",
        "google.protobuf.Duration",
        "google.protobuf.Timestamp",
        "dyn",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
        "optional_type",
        "net.IP",
        "net.CIDR",
    ];
    let name = name.strip_prefix('.').unwrap_or(name);
    NAMES.into_iter().find(|known| *known == name)
}

fn read() -> BTreeMap<&'static str, Function> {
    let mut functions: BTreeMap<&'static str, Function> = BTreeMap::new();
    let mut add = |name: &'static str, overload: Overload| {
        let function = functions.entry(name);
        function
            .or_insert_with(|| Function { name, overloads: Vec::new() })
            .overloads
            .push(overload);
    };
    for line in LINES.lines().filter(|line| !line.is_empty()) {
        let (name, _) = line.split_once(' ').expect("a line starts with a function");
        if line.contains('#') {
            for of in COMPARABLE {
                add(name, overload(leaked(line.replace('#', of))));
            }
        } else {
            add(name, overload(line));
        }
    }
    for (name, id) in COMPARISONS {
        for (left, right, types) in COMPARED {
            let id = leaked(format!("{id}_{types}"));
            let arguments = vec![named(left, Vec::new()), named(right, Vec::new())];
            add(name, Overload { id, is_method: false, arguments, result: Type::Bool });
        }
    }
    for format in FORMATS {
        let name = leaked(format!("format.{format}"));
        let result = Type::Library("kubernetes.NamedFormat");
        add(name, Overload { id: name, is_method: false, arguments: Vec::new(), result });
    }
    functions
}

/// The table is read once, and lives as long as the process.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn overload(line: &'static str) -> Overload {
    let (_, rest) = line.split_once(' ').expect("a function, then an overload");
    let is_method = rest.starts_with('.');
    let (id, rest) = rest.split_once('(').expect("an overload has arguments");
    let (arguments, result) = rest.rsplit_once(") ").expect("arguments, then a result");
    let mut reader = Reader(arguments);
    let mut types = Vec::new();
    while !reader.0.is_empty() {
        types.push(reader.value_type());
        reader.0 = reader.0.trim_start_matches([',', ' ']);
    }
    let result = Reader(result).value_type();
    Overload { id: id.trim_start_matches('.'), is_method, arguments: types, result }
}

struct Reader(&'static str);

impl Reader {
    fn value_type(&mut self) -> Type {
        let end = self.0.find([',', '(', ')']).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        let mut parts = Vec::new();
        if let Some(inner) = self.0.strip_prefix('(') {
            self.0 = inner;
            while !self.0.starts_with(')') {
                parts.push(self.value_type());
                self.0 = self.0.trim_start_matches([',', ' ']);
            }
            self.0 = &self.0[1..];
        }
        named(name, parts)
    }
}

fn named(name: &'static str, mut parts: Vec<Type>) -> Type {
    let mut part = || parts.remove(0);
    match name {
        "list" => Type::list(part()),
        "map" => Type::map(part(), part()),
        "optional" => Type::optional(part()),
        "type" => Type::Meta(Some(std::sync::Arc::new(part()))),
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "net.IP" | "net.CIDR" => Type::Opaque(name),
        _ => match name.chars().next().filter(|_| name.len() == 1) {
            Some(parameter) => Type::Parameter(parameter),
            None => Type::Library(name),
        },
    }
}
