// Images from the user: read chosen, dropped or pasted files for a request.

const UPLOAD_TYPES = ["image/jpeg", "image/png", "image/webp", "image/gif"];
const MAX_SIDE = 1600; // of resized images; models read far fewer pixels

// Read a file as {name, preview, input}; input is the image object of a request. Throws an Error with a message to show.
export async function readImage(file, maxBytes) {
  const canUploadAsIs = UPLOAD_TYPES.includes(file.type) && file.size <= maxBytes;
  const blob = canUploadAsIs ? file : await resize(file);
  return { name: file.name || "image", preview: URL.createObjectURL(blob), input: { data: await toBase64(blob) } };
}

async function resize(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "This"} is not an image this browser can read. Use JPEG, PNG, WebP or GIF.`);
  }
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(scale * bitmap.width));
  canvas.height = Math.max(1, Math.round(scale * bitmap.height));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

// Call onFiles with images that are dropped on or pasted into a tab, while the tab is shown.
export function addImageDropTarget(panel, onFiles) {
  const imageFiles = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  const isActive = () => !panel.hidden && !document.querySelector("dialog[open]");
  let dragDepth = 0;
  const updateDropState = (change) => {
    dragDepth = Math.max(0, dragDepth + change);
    panel.classList.toggle("is-drop-target", dragDepth > 0);
  };
  const hasFiles = (event) => isActive() && event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => hasFiles(event) && updateDropState(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && updateDropState(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    updateDropState(-dragDepth);
    const dropped = imageFiles(event.dataTransfer);
    if (dropped.length) onFiles(dropped);
  });
  document.addEventListener("paste", (event) => {
    const pasted = isActive() ? imageFiles(event.clipboardData) : [];
    if (!pasted.length) return;
    event.preventDefault();
    onFiles(pasted);
  });
}

// Split images into requests within the server's limits on images and bytes.
export function splitIntoBatches(images, limits) {
  const batches = [];
  let batch = [], bytes = 0;
  for (const image of images) {
    const size = image.input.data?.length ?? 100;
    if (batch.length && (image.sendAlone || batch.length === limits.batch || bytes + size > 0.9 * limits.body_bytes)) {
      batches.push(batch);
      [batch, bytes] = [[], 0];
    }
    batch.push(image);
    bytes += size;
  }
  return batch.length ? [...batches, batch] : batches;
}
